"""What each of the systems that Stepwire takes the place of must show: the command, and what it prints.

    python -m tests.e2e.systems                 all of it, as Markdown
    python -m tests.e2e.systems S2 U4           some of it

S is agents and their supervisor, P planning first, U one interface for anything that takes long. Servers, endpoints,
connections and signals are real. A row whose lines do not come, in their order, fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.models.endpoint import Endpoint, Request, Scripted, refuses, says

from . import depths
from .rows import BATCH, ROWS, Row
from .serving import APPS, PATIENCE, Gate, ServerProcess, command, until

__all__ = ["Servers", "show"]

SALES = """day,region,price,pieces
2026-01-05,West,10.5,3
2026-01-06,East,12.0,1
2026-02-07,West,39.66,2
2026-02-09,North,8.25,7
"""

CANARY = "sk-canary-c41d07a5e9"

OWN = ("brought", "depths")
"""Apps of the tests."""

_WIDTH = 260
"""Characters of a line that are shown. Of an event as JSON, only what is its own is."""


def greets(request: Request) -> Scripted:
    """Answers as an endpoint that has too much to do at first."""
    if request.number == 1:
        return refuses(429, "Rate limit reached", headers={"Retry-After": "0"})
    return says(*["Hello ", ", ", "dear ", "reader ", ", ", "and ", "a ", "good ", "morning ", "to ", "you ", "!"])


def builds(request: Request) -> Scripted:
    """Answers as a model that a supervisor and its agents ask: the first code it writes is wrong."""
    if request.schema is None:
        operator = "abs(a - b)" if "These fail" in request.prompt else "a + b"
        return says("```python\ndef gap(a, b):\n", f"    return {operator}\n```")
    if '"turns"' not in request.prompt:
        return says('{"next_agent": "nobody"}')
    turns = json.loads(request.prompt[request.prompt.index("{") : request.prompt.rindex("}") + 1])["turns"]
    agent = {"research": "codesmith", "codesmith": "reviewfix"}.get(turns[-1], "responder")
    return says(
        json.dumps({"reasoning": f"after {turns[-1]}", "confidence": 0.5, "next_agent": agent, "instructions": "go"})
    )


@dataclass
class Servers:
    """Starts what rows need, each app once, in a folder of its own. All are given a key, which nobody may see."""

    folder: Path
    running: dict[str, ServerProcess] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    flags: dict[str, list[str]] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)

    def of(self, app: str) -> ServerProcess:
        """Returns the app's server, which runs."""
        if app not in self.running:
            own = self.folder / app
            own.mkdir(exist_ok=True)
            flags, name, cwd = [], f"stepwire_server.{app}:app", own
            match app:
                case "charts":
                    (own / "sales.csv").write_text(SALES, "utf-8")
                    flags = ["--set", "data=sales.csv"]
                case "models" | "supervisor+model":
                    name = f"stepwire_server.{app.partition('+')[0]}:app"
                    endpoint = self.stack.enter_context(Endpoint(greets if app == "models" else builds))
                    flags = ["--set", "model=tiny", "--set", f"model-url={endpoint.url}"]
                    self.endpoints.append(endpoint)
                case _ if app in OWN:
                    name, cwd = f"{app}:app", APPS
            (own / "batch.json").write_text(BATCH, "utf-8")
            self.flags[app] = [name, *flags]
            server = ServerProcess(own, app=name, cwd=cwd, flags=flags, environment={"OPENAI_API_KEY": CANARY})
            self.running[app] = self.stack.enter_context(server)
        return self.running[app]

    @property
    def asked(self) -> int:
        """How many requests came to the models' endpoints with the key."""
        requests = [request for endpoint in self.endpoints for request in endpoint.requests]
        return sum(CANARY in request.headers.get("authorization", "") for request in requests)

    def holding(self, text: str) -> list[str]:
        """Returns the files (journals, logs, what else the servers wrote) that have a text."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path.name for path in files if text.encode() in path.read_bytes()]


def show(row: Row, servers: Servers, *, given: Mapping[str, object]) -> Iterator[str]:
    """Gives the lines of one row: its commands, and what they printed of what it must show. Raises AssertionError where
    a line does not come.
    """
    server = servers.of(row.app)
    within = " (in tests/e2e/apps)" if row.app in OWN else ""
    yield f"$ stepwire-server serve {shlex.join(servers.flags[row.app])}{within}"
    missing = [{each} if isinstance(each, str) else set(each) for each in row.shows]
    execution_id, printed = "", ""
    code = 0
    for run in row.runs:
        match run:
            case "!kill":
                yield "$ kill -9 ..."
                server.kill()
                continue
            case "!start":
                server.start()
                continue
        for name, value in {"id": execution_id, "folder": servers.folder / row.app, **given}.items():
            run = run.replace(f"{{{name}}}", str(value))
        yield f"$ stepwire {run}"
        done = _answered(server, run) if run.startswith("answer") else _run(server, run)
        code = done.returncode
        printed += done.stdout
        found = re.search(r"execution (\w{22})|^(\w{22})$|\"execution_id\":\"(\w{22})\"", done.stdout, re.MULTILINE)
        execution_id = next(filter(None, found.groups()), "") if found else execution_id
        for line in done.stdout.splitlines():
            found_here = [each for each in missing[0] if re.search(each, line)] if missing else []
            if found_here:
                missing[0].difference_update(found_here)
                missing = [each for each in missing if each]
                yield line
    assert CANARY not in printed, f"{row.name}: the key was printed"
    told = "\n".join(map(_abridged, printed.splitlines()))
    assert not missing, f"{row.name}: nothing like {' or '.join(missing[0])} came next of\n{told}"
    assert code == row.ends, f"{row.name}: exit code {code}\n{told}"


def _answered(server: ServerProcess, arguments: str) -> subprocess.CompletedProcess[str]:
    """Answers once something is asked: it may not be yet."""

    def answer() -> subprocess.CompletedProcess[str] | None:
        done = _run(server, arguments)
        return None if done.returncode else done

    found: subprocess.CompletedProcess[str] = until(answer, "a question")
    return found


def _run(server: ServerProcess, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("stepwire"), "--server", server.address, *shlex.split(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


def _abridged(line: str) -> str:
    """Returns a line without what all events have, and not longer than a reader wants."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            told = {
                name: event[name] for name in ("type", "step_id", "percentage", "message", "data") if event.get(name)
            }
            line = json.dumps(told or event, ensure_ascii=False)
    return line if len(line) <= _WIDTH else line[:_WIDTH] + " ..."


def main() -> int:
    """Shows all rows, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="rows, such as S2")
    names = parser.parse_args().names
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        with servers.stack, Gate() as gate:
            gate.open()
            for row in ROWS:
                if names and not set(names) & set(row.name.split(", ")):
                    continue
                print(f"\n### {row.name}: {row.says}\n\n```text")
                try:
                    for line in show(row, servers, given={"gate": gate.port}):
                        print(_abridged(line))
                except AssertionError as error:
                    failed += 1
                    print(f"NOT SHOWN: {error}")
                print("```")
            leaks, prompts = servers.holding(CANARY), servers.holding("Greet me.")
            print(f"\nRequests to models with their key: {servers.asked}; files of servers that have it: {leaks or 0}")
            print(f"Files that have a prompt, which shows that a key would be found: {', '.join(prompts) or 0}")
            failed += bool(leaks) or not (names or (servers.asked and prompts))
            if not names or {"S6", "P3"} & set(names):
                print("\n### S6, P3: what is said far below, in threads and in tasks, comes while its step runs\n")
                print(depths.table(depths.run(servers.of("depths"))))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
