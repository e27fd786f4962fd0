"""Who may import whom: looked up in the source, and tried in fresh interpreters."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .tree import MODULES, ROOT, module_name, parse

PUBLIC = {"stepwire.v1", "stepwire.artifacts", "stepwire.errors", "stepwire.parts", "stepwire.values"}
"""What the server may know of the client's package."""

GRPC = ("grpc", "grpc_status", "grpc_health", "grpc_reflection")

TRANSPORTS = {"stepwire.client", "stepwire.aio", "stepwire.wire", "stepwire.aio_wire", "stepwire.transport"}
"""Where the client may speak gRPC."""

BOUNDARIES: dict[str, tuple[str, ...]] = {
    "stepwire": ("stepwire_server",),
    "stepwire_server.engine": (
        "stepwire_server.api",
        "stepwire_server.assistant",
        "stepwire_server.app",
        "stepwire_server.config",
        "stepwire_server.journal.sqlite",
        "stepwire_server.journal.memory",
        "sqlite3",
        "click",
        *GRPC,
    ),
    "stepwire_server.journal": (
        "stepwire_server.api",
        "stepwire_server.engine",
        "stepwire_server.assistant",
        "stepwire_server.app",
        "stepwire_server.config",
        "click",
        *GRPC,
    ),
    "stepwire_server.api": ("stepwire_server.assistant", "stepwire_server.app", "stepwire_server.config", "click"),
    "stepwire_server.app": ("stepwire_server.api", "stepwire_server.journal", "stepwire_server.assistant", *GRPC),
    "stepwire_server.config": ("stepwire_server.api", "stepwire_server.engine", *GRPC),
    "stepwire_server.assistant": (
        "stepwire_server.api",
        "stepwire_server.app",
        "stepwire_server.config",
        "stepwire_server.engine",
        "stepwire_server.journal",
        *GRPC,
    ),
}
"""What a package does not import, at any place in its modules."""


APPS: dict[str, tuple[str, ...]] = {
    "stepwire_server.bridges": (),
    "stepwire_server.assistant": (),
    "stepwire_server.charts": ("stepwire_server.models",),
    "stepwire_server.models": (),
    "stepwire_server.planning": ("stepwire_server.models", "stepwire_server.tools"),
    "stepwire_server.supervisor": ("stepwire_server.models",),
    "stepwire_server.tools": ("stepwire_server.models",),
}
"""The apps that come with the server, and which others each builds on."""


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Gives every module that a module imports, with the name that it takes from it, wherever the import stands."""
    here = module_name(path)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = here.split(".")[: -node.level + (path.name == "__init__.py") or None]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield base, alias.name


def _id(path: Path) -> str:
    return module_name(path)


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_boundaries(path: Path) -> None:
    """No module imports what lies beyond its package's boundary."""
    name = module_name(path)
    for package, beyond in BOUNDARIES.items():
        if within(name, package):
            for base, taken in imports(path):
                for refused in beyond:
                    assert not within(base, refused), (name, base)
                    assert not within(f"{base}.{taken}", refused), (name, base, taken)


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_grpc_is_imported_where_it_belongs(path: Path) -> None:
    """grpc is imported in the server's api and command, and in the client's transports, and nowhere else."""
    name = module_name(path)
    if within(name, "stepwire_server.api") or name in TRANSPORTS | {"stepwire_server.__main__"}:
        return
    assert [base for base, _ in imports(path) if base.partition(".")[0] in GRPC] == [], name


@pytest.mark.parametrize("path", [path for path in MODULES if within(module_name(path), "stepwire_server")], ids=_id)
def test_what_the_server_knows_of_the_client(path: Path) -> None:
    """The server imports contract, artifacts, errors, parts and values from the client's package, and nothing else."""
    for base, taken in imports(path):
        if within(base, "stepwire"):
            assert base in PUBLIC or f"{base}.{taken}" in PUBLIC, (path, base, taken)


def _app(path: Path) -> str:
    """Returns the app that a module belongs to; nothing where it belongs to none."""
    return next((app for app in APPS if within(module_name(path), app)), "")


@pytest.mark.parametrize("path", [path for path in MODULES if _app(path)], ids=_id)
def test_the_apps_are_apps_like_any_other(path: Path) -> None:
    """An app that comes with the server uses what every author may use: public names of stepwire_server, and other apps
    as APPS says.
    """
    app = _app(path)
    public = _public()
    for base, taken in imports(path):
        if base == "stepwire_server":
            assert taken in public or f"{base}.{taken}" in APPS[app], (path, taken)
        elif within(base, "stepwire_server"):
            assert any(within(base, allowed) for allowed in (app, *APPS[app])), (path, base)


@functools.cache
def _public() -> list[str]:
    return _fresh("import stepwire_server; print(json.dumps(stepwire_server.__all__))")


def _fresh(code: str) -> list[str]:
    """Runs code in a fresh interpreter that prints a list as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


LOADED: dict[str, tuple[str, ...]] = {
    "stepwire": ("grpc", "google.protobuf", "stepwire_server", "asyncio", "rich", "click"),
    "stepwire.v1": ("grpc", "stepwire_server"),
    "stepwire.errors": ("grpc", "stepwire_server"),
    "stepwire.client": ("stepwire_server", "rich", "click"),
    "stepwire.aio": ("stepwire_server", "rich", "click"),
    "stepwire_server": ("grpc", "google.protobuf", "sqlite3", "click", "pydantic", "stepwire_server.engine"),
    "stepwire_server.engine.engine": (
        "grpc",
        "grpc_status",
        "sqlite3",
        "click",
        "stepwire_server.api",
        "stepwire_server.app",
    ),
    "stepwire_server.journal": ("grpc", "sqlite3", "pydantic", "stepwire_server.engine", "stepwire_server.api"),
    "stepwire_server.journal.sqlite": ("grpc", "pydantic", "stepwire_server.engine", "stepwire_server.api"),
    "stepwire_server.app": ("grpc", "sqlite3", "click", "stepwire_server.api"),
    "stepwire_server.assistant": ("grpc", "click", "stepwire_server.api"),
    "stepwire_server.api.server": ("sqlite3", "click", "stepwire_server.app", "stepwire_server.assistant"),
}
"""What importing a module does not load, by itself or through others."""


@pytest.mark.parametrize("name", LOADED)
def test_what_an_import_loads(name: str) -> None:
    """Importing a module loads nothing from beyond its boundary, in a fresh interpreter."""
    loaded = _fresh(f"import {name}; print(json.dumps(sorted(sys.modules)))")
    for refused in LOADED[name]:
        assert [module for module in loaded if within(module, refused)] == [], refused


FIRST = """
import importlib, os, sys, traceback
import asyncio, importlib.metadata, sqlite3, click, google.protobuf.json_format, grpc.aio, rich.live, rich.table
from pydantic import BaseModel, TypeAdapter
import stepwire.v1
loaded = set()
for name in sorted(sys.argv[1:]):
    if name in loaded:
        continue
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
            within = [module for module in sys.modules if module.startswith(name + ".")]
            os.write(write, " ".join(within).encode())
        except BaseException:
            print(name, traceback.format_exc(), flush=True)
        os._exit(0)
    os.close(write)
    with open(read) as told:
        loaded.update(told.read().split())
    os.waitpid(child, 0)
"""
"""Imports each module first, in a child of an interpreter that has loaded what is not ours: that takes the time. To
import what a package loads is to import the package first, which was tried then.
"""


@pytest.mark.timeout(180)  # A child a module: on a busy machine that takes more than the minute that tests have.
def test_a_module_can_be_imported_first() -> None:
    """No module relies on another one having been imported before it."""
    names = [module_name(path) for path in MODULES if path.name != "__main__.py"]
    assert len(names) > 80
    done = subprocess.run(
        [sys.executable, "-c", FIRST, *names], capture_output=True, text=True, timeout=170, cwd=ROOT, check=True
    )
    assert done.stdout == ""
