"""How modules look: names, size, docstrings, exact exports."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from .tree import MODULES, ROOT, module_name, parse

SOURCES = [path for path in MODULES if "_pb2" not in path.name]

NAMES_TO_AVOID = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "v2"}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_modules() -> None:
    """The tests below look at something."""
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_module_says_what_it_is(path: Path) -> None:
    """Every module begins with a docstring."""
    assert ast.get_docstring(parse(path)), path


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_annotations_are_not_evaluated(path: Path) -> None:
    """After the docstring every module imports annotations from __future__, unless it has nothing but a docstring."""
    body = parse(path).body[1:]
    if body:
        first = body[0]
        assert isinstance(first, ast.ImportFrom), path
        assert first.module == "__future__", path
        assert [alias.name for alias in first.names] == ["annotations"], path


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_exports_are_exact(path: Path) -> None:
    """`__all__` names every public name that a module defines, and nothing that is not Stepwire's."""
    tree = parse(path)
    exported = _exported(tree)
    defined = {name for name in _defined(tree) if not name.startswith("_")}
    # An alias of a type may be exported, and need not be.
    defined |= {name for name in _aliases(tree) if name in exported}
    if len(tree.body) == 1:
        return
    if path.name == "__init__.py":
        # A package exports names of its modules too, some of them only when they are asked for.
        assert defined <= set(exported), path
        module = importlib.import_module(module_name(path))
        for name in exported:
            assert hasattr(module, name), (path, name)
    else:
        # A name that has moved may still be given where it was looked for.
        passed_on = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stepwire")
            for alias in node.names
        }
        assert set(exported) - passed_on == defined, path
    assert len(exported) == len(set(exported)), path


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            return list(ast.literal_eval(node.value))
    return []


def _defined(tree: ast.Module) -> set[str]:
    """Returns the names that a module gives itself: functions, classes, constants."""
    found: set[str] = set()
    for node in tree.body:
        if _is_notation(node) or _is_command(node):
            continue
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
                found |= {
                    item.id
                    for target in targets
                    if isinstance(target, ast.Tuple)
                    for item in target.elts
                    if isinstance(item, ast.Name)
                }
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


def _aliases(tree: ast.Module) -> set[str]:
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_notation(node)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_notation(node: ast.stmt) -> bool:
    """A type variable or an alias of a type says something to the reader, and is nothing to import."""
    if not isinstance(node, ast.Assign):
        return False
    match node.value:
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec" | "NewType")):
            return True
        case ast.Subscript(value=ast.Name(id=base)):
            return base in {
                "Annotated",
                "Literal",
                "Callable",
                "Mapping",
                "Sequence",
                "Awaitable",
                "Union",
                "dict",
                "list",
                "tuple",
            }
        case _:
            return False


def _is_command(node: ast.stmt) -> bool:
    """A command that a group of the same module registers is reached through its group."""
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "command"
        and not (isinstance(call.func.value, ast.Name) and call.func.value.id == "click")
        for call in node.decorator_list
    )


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_modules_are_short(path: Path) -> None:
    """No module has more than 500 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_modules_are_nouns_of_the_domain(path: Path) -> None:
    """No module is named after nothing in particular."""
    assert not set(path.stem.split("_")) & NAMES_TO_AVOID, path


def test_no_package_is_reached_by_accident() -> None:
    """Neither `client` nor `server` is a package: `import client` fails in an installed copy."""
    for folder in ("client", "server"):
        assert not (ROOT / folder / "__init__.py").exists()
