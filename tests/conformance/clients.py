"""The clients that the kit knows: how each is built, how its adapter is run, and what must be installed for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CLIENTS", "ROOT", "Client", "find_clients", "python"]

ROOT = Path(__file__).resolve().parents[2]

_PYTHON = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client"), os.environ.get("PYTHONPATH", "")])}


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of some language, with its adapter."""

    name: str
    folder: Path
    """Where it is built."""
    needs: Sequence[str] = ()
    """Programs that must be there."""
    build: Sequence[Sequence[str]] = ()
    """Commands that build its adapter, in its folder."""
    run: Sequence[str]
    """The command that runs its adapter. It is run in an empty folder, so files in it are absolute."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""

    def missing(self) -> list[str]:
        """Returns what must be there and is not."""
        programs = [program for program in self.needs if shutil.which(program) is None]
        return programs if self.folder.is_dir() else [*programs, str(self.folder.relative_to(ROOT))]

    def is_built(self) -> bool:
        """Tells whether the files that it is run from are there."""
        return all(Path(part).exists() for part in self.run if Path(part).is_absolute())


def python(name: str, module: str, *arguments: str) -> Client:
    """Returns an adapter that is a module of Python."""
    return Client(
        name=name,
        folder=ROOT / "client",
        run=[sys.executable, "-m", module, *arguments],
        environment=_PYTHON,
    )


CLIENTS: Sequence[Client] = (
    python("python", "tests.conformance.adapters.python_client"),
    python("python-aio", "tests.conformance.adapters.python_aio_client"),
    Client(
        name="go",
        folder=ROOT / "client/go",
        needs=["go"],
        build=[["go", "build", "-o", "build/conformance-go", "./conformance"]],
        run=[str(ROOT / "client/go/build/conformance-go")],
    ),
    Client(
        name="typescript",
        folder=ROOT / "client/typescript",
        needs=["node", "npm"],
        build=[["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]],
        run=["node", str(ROOT / "client/typescript/dist/conformance/adapter.js")],
    ),
    Client(
        name="java",
        folder=ROOT / "client/java",
        needs=["java", "mvn"],
        build=[["mvn", "-q", "-B", "package", "-DskipTests"]],
        run=["java", "-jar", str(ROOT / "client/java/target/stepwire-conformance.jar")],
    ),
)


def find_clients(names: Sequence[str]) -> list[Client]:
    """Returns the clients of these names, or all. Raises ValueError for one that is not there."""
    known = {client.name: client for client in CLIENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"No such client: {', '.join(unknown)}. There are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(CLIENTS)
