"""The process that tests are run in. It is started as a script, by itself, and knows nothing of the server.

    a job on stdin -> a child for each candidate -> a child of that for each test -> a line on stdout for each candidate

Where stdin ends, whoever gave the job has left, or is dead: the process ends then, and its children before it. It runs
nothing itself of what it was given. What a test is found to be comes from a pipe of its own, together
with a word that was made up for it: who leaves early, or prints what looks like a verdict, has not passed. Python code
can't be shut in by Python: the fences here stop accidents, shortcuts and plain mischief, and whoever runs the code of
strangers runs the server in a container.
"""

from __future__ import annotations

import ast
import json
import mmap
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

__all__ = ["main"]

_MAX_TESTS = 500
_SHOWN = 2_000
"""Characters of a message, and of what a test printed, that are told."""

_WRITES = 64
_ALL_WRITES = 256
"""How often one test may open a file for writing, and all tests together: each time it may write a file's limit."""

_HARMLESS = frozenset(
    {
        "array.__new__",
        "builtins.id",
        "code.__new__",
        "compile",
        "exec",
        "import",
        "marshal.loads",
        "marshal.dumps",
        "object.__getattr__",
        "object.__setattr__",
        "object.__delattr__",
        "pickle.find_class",
        "sys._getframe",
        "sys._getframemodulename",
        "sys.excepthook",
        "sys.unraisablehook",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
        "glob.glob",
        "glob.glob/2",
        "time.sleep",
        "function.__new__",
        "os.putenv",
        "os.unsetenv",
    }
)
"""What a test may do of what the interpreter watches. Everything else is refused: processes, threads, sockets, signals,
foreign functions, and looking at what the collector has.
"""

_BACK_DOORS = frozenset({"_ctypes", "_posixsubprocess"})
"""Modules that can do what the interpreter does not see."""

_READING = frozenset({"os.listdir", "os.scandir", "os.chdir"})
_CHANGING = frozenset({"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate", "os.utime"})


class _Fence:
    """Decides what the code under test may do. Once it is up it stays."""

    def __init__(self, folder: str) -> None:
        self._own = os.path.realpath(folder) + os.sep
        self._readable = (self._own, *(os.path.realpath(place) + os.sep for place in sys.path if place))
        self._left = _WRITES
        # Shared with the children, that have a test each.
        self._written = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self.is_open = True
        """Whether everything is allowed: while this module itself is at work."""

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_open or (event in _HARMLESS and not (event == "import" and arguments[0] in _BACK_DOORS)):
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)) if flags else "r" not in mode
            self._check_path(path, writes=writes, event=event)
        elif event in _READING or event in _CHANGING:
            for path in arguments[: 2 if event == "os.rename" else 1]:
                self._check_path(path, writes=event in _CHANGING, event=event)
        else:
            raise PermissionError(f"tests may not do this: {event}")

    def _check_path(self, path: object, *, writes: bool, event: str) -> None:
        if isinstance(path, int):  # An open descriptor.
            return
        real = os.path.realpath(os.fsdecode(path if path is not None else "."))  # type: ignore[arg-type]
        if writes:
            self._left -= 1
            self._written[0] += 1
            if not (real + os.sep).startswith(self._own):
                raise PermissionError(f"tests may write in their own folder only: {event} {real}")
            if self._left < 0:
                raise PermissionError(f"a test may write {_WRITES} files")
            if self._written[0] > _ALL_WRITES:
                raise PermissionError(f"all tests together may write {_ALL_WRITES} files")
        elif not (real + os.sep).startswith(self._readable) and real != os.devnull:
            raise PermissionError(f"tests may read their own folder and the standard library only: {event} {real}")


def main() -> None:
    """Does the job that stands on stdin."""
    job = json.loads(sys.stdin.readline())
    os.chdir(job["folder"])
    sys.dont_write_bytecode = True
    tree = ast.parse(job["tests"], "tests.py")
    results, giver = os.dup(1), os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    _limit(job["limits"])
    for number, code in enumerate(job["candidates"]):
        found = _candidate(code, tree, job, giver)
        _clean()
        line = json.dumps({"candidate": number, "tests": found}).encode() + b"\n"
        while line:
            line = line[os.write(results, line) :]
        if job["quick"] and found and all(test["passed"] for test in found):
            return


def _clean() -> None:
    """Removes what a candidate has written: the next one starts in an empty folder, too."""
    for folder, folders, files in os.walk(".", topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))


def _limit(limits: Mapping[str, int]) -> None:
    wanted = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["processor"],
        resource.RLIMIT_FSIZE: limits["output"],
        resource.RLIMIT_NOFILE: 64,
    }
    for kind, value in wanted.items():
        # Some systems lack one of them.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


def _candidate(code: str, tree: ast.Module, job: Mapping[str, Any], giver: int) -> list[dict[str, Any]]:
    """Runs all tests on one candidate, in a child; quick: in that child itself, until one fails."""
    limit = job["seconds"]
    if job["quick"]:
        return [_in_child("all tests", lambda: _all(code, tree), limit, giver=giver)]
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + job["whole"]

    def run() -> None:
        # In here, what was given is run, and may do what it likes with this process: so each line bears the word.
        _course(code, tree, tell, limit, deadline)

    reader, writer = os.pipe()
    word = os.urandom(16).hex()

    def tell(result: Mapping[str, Any]) -> None:
        os.write(writer, json.dumps({**result, "word": word}).encode() + b"\n")

    fate = _in_child(
        "the top level",
        run,
        job["whole"],
        giver=giver,
        keep=(writer,),
        meanwhile=lambda: _drain(reader, word, found),
    )
    os.close(writer)
    _drain(reader, word, found, to_the_end=True)
    os.close(reader)
    if not fate["passed"] or not found:
        found.append(fate if not fate["passed"] else _result("the top level", False, "there are no tests"))
    return found


def _drain(reader: int, word: str, found: list[dict[str, Any]], to_the_end: bool = False) -> None:
    buffered = _buffers.setdefault(reader, bytearray())
    while select.select([reader], [], [], 0)[0]:
        piece = os.read(reader, 65_536)
        if not piece:
            break
        buffered += piece
    *lines, rest = bytes(buffered).split(b"\n")
    _buffers[reader] = bytearray(rest)
    for line in lines:
        with suppress(ValueError):
            result = json.loads(line)
            if isinstance(result, dict) and result.pop("word", "") == word and len(found) < _MAX_TESTS:
                found.append(result)
    if to_the_end:
        del _buffers[reader]


_buffers: dict[int, bytearray] = {}


def _course(
    code: str, tree: ast.Module, tell: Callable[[Mapping[str, Any]], None], limit: float, deadline: float
) -> None:
    """Executes the tests' statements in order. An assert, and at last each function test_..., is a test of its own and
    runs in a child, so that none disturbs another.
    """
    fence, names = _scene(code)
    count = 0

    def test(name: str, run: Callable[[], None]) -> None:
        nonlocal count
        count += 1
        left = deadline - time.monotonic()
        if count > _MAX_TESTS:
            return
        fence.is_open = True
        if left <= 0:
            tell(_result(name, False, "not run: the time for all tests is over"))
        else:
            tell(_in_child(name, lambda: _fenced(fence, run), min(limit, left)))
        fence.is_open = False

    for node in tree.body:
        if isinstance(node, ast.Assert):
            test(ast.unparse(node.test), lambda node=node: _check(node, names))  # type: ignore[misc]
        else:
            _execute(node, names)
    for name, value in list(names.items()):
        if name.startswith("test") and callable(value):
            test(name, value)


def _all(code: str, tree: ast.Module) -> None:
    fence, names = _scene(code)
    for node in tree.body:
        if isinstance(node, ast.Assert):
            _check(node, names)
        else:
            _execute(node, names)
    for name, value in list(names.items()):
        if name.startswith("test") and callable(value):
            value()
    fence.is_open = True


def _scene(code: str) -> tuple[_Fence, dict[str, Any]]:
    """Returns the fence, which is up, and the names that tests find: those of the solution, which is a module too."""
    fence = _Fence(".")
    sys.addaudithook(fence.check)
    solution = ModuleType("solution")
    sys.modules["solution"] = solution
    fence.is_open = False
    exec(compile(code, "solution.py", "exec"), solution.__dict__)
    names = {key: value for key, value in solution.__dict__.items() if not key.startswith("__")}
    return fence, {**names, "__name__": "tests"}


def _execute(node: ast.stmt, names: dict[str, Any]) -> None:
    exec(compile(ast.Module([node], []), "tests.py", "exec"), names)


def _check(node: ast.Assert, names: dict[str, Any]) -> None:
    """Executes an assert; where it compares, its failure says what was compared."""
    match node.test:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if node.msg is None:
            got, wanted = _value(left, names), _value(right, names)
            compared = ast.Compare(ast.Name("got", ast.Load()), [operator], [ast.Name("wanted", ast.Load())])
            if not _value(compared, {"got": got, "wanted": wanted}):
                raise AssertionError(f"{ast.unparse(left)} gave {got!r:.300}, wanted {wanted!r:.300}")
        case _:
            _execute(node, names)


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    return eval(compile(ast.fix_missing_locations(ast.Expression(node)), "tests.py", "eval"), names)


def _fenced(fence: _Fence, run: Callable[[], None]) -> None:
    with suppress(ValueError, OSError):
        # Now, since it counts all processes of a user: this one may make none. It does not bind root; the fence does.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    fence.is_open = False
    try:
        run()
    finally:
        fence.is_open = True


def _in_child(
    name: str,
    run: Callable[[], None],
    limit: float,
    *,
    giver: int | None = None,
    keep: tuple[int, ...] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs something in a child, and returns what became of it. `giver`: where that pipe ends, child and process do."""
    reader, writer = os.pipe()
    word = os.urandom(16)
    printed = os.open("printed.txt" if not keep else "printed-first.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    start = time.monotonic()
    child = os.fork()
    if not child:
        os._exit(_be_child(run, {writer, *keep}, printed, writer, word))
    os.close(writer)
    timed_out = False
    heard = b""
    heeded = [reader] if giver is None else [reader, giver]
    status: int | None = None
    while status is None:
        left = start + limit - time.monotonic()
        pause = 0.002 if reader not in heeded else 0.05 if keep else left
        ready = select.select(heeded, [], [], max(0.0, min(left, pause)))[0]
        meanwhile()
        if giver in ready:
            _kill(child, is_leader=bool(keep))
            os.waitpid(child, 0)
            os._exit(1)
        if ready:
            piece = os.read(reader, 65_536)
            heard = (heard + piece)[:65_536]
            if not piece:
                heeded.remove(reader)
        elif time.monotonic() - start >= limit:
            timed_out = True
            _kill(child, is_leader=bool(keep))
            status = os.waitpid(child, 0)[1]
        if status is None and reader not in heeded:
            # It has ended, or will not say any more how.
            ended, how = os.waitpid(child, os.WNOHANG)
            status = how if ended else None
    os.close(reader)
    text = _printed(printed)
    seconds = time.monotonic() - start
    if timed_out:
        return _result(name, False, f"not done after {limit:g} s", text, seconds)
    if heard.startswith(word):
        message = heard[len(word) :].decode("utf-8", "replace")
        return _result(name, not message, message, text, seconds)
    return _result(name, False, f"the process ended before the test did ({_ending(status)})", text, seconds)


def _be_child(run: Callable[[], None], keep: set[int], printed: int, writer: int, word: bytes) -> int:
    message = ""
    try:
        if len(keep) > 1:
            os.setpgid(0, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        for descriptor in range(3, 64):
            if descriptor not in keep:
                with suppress(OSError):
                    os.close(descriptor)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - until its end
        sys.stderr = sys.stdout
        run()
        sys.stdout.flush()
    except BaseException as error:  # Whatever it is, SystemExit too: the test has not passed.
        message = _told(error)
    os.write(writer, word + message.encode("utf-8", "replace")[:_SHOWN])
    return 0


def _told(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:
        text = type(error).__name__
    where = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _OURS]
    place = f" ({where[-1].filename}, line {where[-1].lineno})" if where else ""
    return (text.removeprefix("AssertionError: ") + place)[:_SHOWN]


_OURS = frozenset({"solution.py", "tests.py"})


def _printed(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 4 * _SHOWN).decode("utf-8", "replace")
    os.close(descriptor)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ... (more was printed)"


def _kill(child: int, *, is_leader: bool) -> None:
    with suppress(ProcessLookupError):
        if is_leader:
            os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
        return f"killed by signal {number}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _result(name: str, passed: bool, message: str = "", printed: str = "", seconds: float = 0.0) -> dict[str, Any]:
    return {
        "name": re.sub(r"\s+", " ", name)[:200],
        "passed": passed,
        "message": message[:_SHOWN],
        "printed": printed,
        "seconds": round(seconds, 4),
    }


if __name__ == "__main__":
    main()
