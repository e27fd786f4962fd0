"""protos/grpcurl.md: every command works as it stands, and prints what the page shows."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stepwire.v1 import execution_service_pb2

from .page import Block, Printed, blocks, differences, parse, run, values
from .serving import REPOSITORY, ServerProcess, find_grpcurl, not_run

PAGE = (REPOSITORY / "protos/grpcurl.md").read_text("utf-8")
BLOCKS = blocks(PAGE)

SECONDS = 50.0
"""For all commands together. A command that hangs is one that the page must not have."""


@dataclass
class Session:
    """What all commands of the page printed, in the order of the page and in one shell."""

    printed: dict[int, Printed]
    ids: dict[str, str] = field(default_factory=dict)
    """Ids of the page, and which they were here."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Runs the page against both of its servers, in a folder that has what the repository has: `protos`."""
    grpcurl = Path(find_grpcurl())
    folder = tmp_path_factory.mktemp("page")
    (folder / "protos").symlink_to(REPOSITORY / "protos")
    [(name, text)] = re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (folder / name).write_text(text, "utf-8")
    [app] = re.findall(r"^stepwire-server serve (\w+:\w+) --listen localhost:50052 &$", PAGE, re.MULTILINE)
    for server in ("first", "second"):
        (folder / server).mkdir()
    path = [str(Path(sys.executable).parent), str(grpcurl.parent), str(REPOSITORY / "build/tools/bin")]
    with ServerProcess(folder / "first") as first, ServerProcess(folder / "second", app=app, cwd=folder) as second:
        addresses = {"localhost:50051": first.address, "localhost:50052": second.address}
        chosen = [block for block in BLOCKS if not missing(block, path)]
        yield Session(run(chosen, folder, path=path, addresses=addresses, seconds=SECONDS))


