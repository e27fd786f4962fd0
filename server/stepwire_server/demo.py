"""`stepwire-server demo`: a server and three queries, to see what it is like. Everything it does, a user could type."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["QUERIES", "run"]

QUERIES = (
    "Bauantrag für Einfamilienhaus in Stuttgart",
    "Unterschied zwischen GmbH und AG gründen",
    "Wie viel kostet ein Bauantrag in München?",
)
"""A checklist, a comparison, a calculation."""

_AFTERWARDS = """
That was a server on {address}, which has ended. Keep one running with

    make serve                       or: stepwire-server serve

and call it from another terminal (after `source .venv/bin/activate`; grpcurl comes with `make tools`, into
build/tools/bin):

    stepwire run "Kontakt Bauamt München"
    grpcurl -plaintext localhost:50051 list
    grpcurl -plaintext -d '{{"query": "Kontakt Bauamt München"}}' \\
        localhost:50051 stepwire.v1.ExecutionService/Execute
"""


def run() -> int:
    """Starts a server on a free port with its journal in a temporary folder, runs the queries, stops it.

    Returns 0 where all went well.
    """
    with tempfile.TemporaryDirectory(prefix="stepwire-demo-") as folder:
        command = [sys.executable, "-m", "stepwire_server", "serve", "--listen", "127.0.0.1:0"]
        journal = Path(folder) / "journal.db"
        server = subprocess.Popen(
            [*command, "--journal", str(journal), "--log-level", "WARNING"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().removeprefix("listening on ").strip()
            if not address:
                return server.wait()
            failed = sum(_query(address, query) for query in QUERIES)
        finally:
            server.terminate()
            server.wait()
    print(_AFTERWARDS.format(address=address))
    return 1 if failed else 0


def _query(address: str, query: str) -> bool:
    print(f'\n$ stepwire --server {address} run --plain "{query}"\n', flush=True)
    client = subprocess.run(
        [sys.executable, "-m", "stepwire", "--server", address, "run", "--plain", query], check=False
    )
    return client.returncode != 0
