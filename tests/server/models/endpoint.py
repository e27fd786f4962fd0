"""An endpoint that speaks the chat completions protocol on a real socket, and answers as a script has it.

    with Endpoint([refuses(429, headers={"Retry-After": "2"}), says("Hello", " world")]) as endpoint:
        model = Model("tiny", url=endpoint.url)
        ...
        assert endpoint.requests[0].prompt == "Greet me"

The script is a list, of which each request takes the next, or a function of the request:

    with Endpoint(lambda request: says("yes" if "sure" in request.prompt else "no")) as endpoint:
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE = 20.0
"""Seconds after which what was waited for is said not to come."""


@dataclass(eq=False)
class Request:
    """A request that came."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: dict[str, Any]
    number: int
    """From 1."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once the caller has closed its connection before the answer's end."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said so far."""
        return list(self.body["messages"])

    @property
    def prompt(self) -> str:
        """The user's last message."""
        return str([message["content"] for message in self.messages if message["role"] == "user"][-1])

    @property
    def system(self) -> str:
        """The system message; empty where there is none."""
        return "".join(str(message["content"]) for message in self.messages if message["role"] == "system")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer shall have; None where none is asked for."""
        form = self.body.get("response_format") or {}
        return dict(form["json_schema"]["schema"]) if form.get("type") == "json_schema" else None


class Hold:
    """A place in an answer where the endpoint waits: until it is released, or the caller has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: list[socket.socket] = []
        self._is_open = False
        self.reached = threading.Event()
        """Set once an answer has come here: what stands before it was sent."""

    def release(self) -> None:
        """Lets all answers go on, now and from now on."""
        with self._lock:
            self._is_open = True
            for wake in self._wakes:
                wake.close()

    def wait(self, caller: socket.socket) -> bool:
        """Returns whether the caller is still there."""
        wake, woken = socket.socketpair()
        with self._lock:
            self._wakes.append(wake)
            if self._is_open:
                wake.close()
        with wake, woken:
            self.reached.set()
            ready, _, _ = select.select([caller, woken], [], [], PATIENCE)
            if caller not in ready:
                return True
            try:
                return bool(caller.recv(1, socket.MSG_PEEK))
            except OSError:
                return False


class Drop:
    """A place in an answer where the connection ends. What was sent before arrives."""


Part = bytes | Hold | type[Drop]
Script = Callable[[Request], "Scripted"] | Sequence["Scripted"]


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """One answer: a status, headers, and what is written one after the other, each in a packet of its own."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def cut(self, size: int) -> Scripted:
        """Returns the same bytes in packets of so many: cut within lines, and within characters."""
        parts: list[Part] = []
        for part in self.parts:
            if isinstance(part, bytes):
                parts += [part[start : start + size] for start in range(0, len(part), size)]
            else:
                parts.append(part)
        return replace(self, parts=tuple(parts))


def says(
    *pieces: str | Hold | type[Drop],
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (7, 3),
    done: bool = True,
) -> Scripted:
    """Returns an answer in pieces. A Hold among them waits there, a Drop ends the connection. `usage`: tokens of the
    prompt and of the answer, in a last chunk that has no choices.
    """
    parts: list[Part] = [delta(role="assistant", content="")]
    parts += [delta(content=piece) if isinstance(piece, str) else piece for piece in pieces]
    if finish is not None:
        parts.append(delta(finish=finish))
    if usage is not None:
        prompt, completion = usage
        counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        parts.append(data({"choices": [], "usage": counted}))
    if done:
        parts.append(b"data: [DONE]\n\n")
    return streams(*parts)


def streams(*parts: Part) -> Scripted:
    """Returns an answer of parts as they go over the wire: `delta(...)`, `data(...)`, any bytes, a Hold, a Drop."""
    return Scripted(headers={"Content-Type": "text/event-stream; charset=utf-8"}, parts=parts)


def refuses(status: int, message: str = "no", *, headers: Mapping[str, str] | None = None, **error: Any) -> Scripted:
    """Returns an error as such endpoints give it. `error`: more of its fields, such as `code` and `param`."""
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return Scripted(status=status, headers={"Content-Type": "application/json", **(headers or {})}, parts=(body,))


def whole(text: str, *, finish: str = "stop") -> Scripted:
    """Returns an answer that is not streamed: as of an endpoint that can't."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = json.dumps({**_CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    return Scripted(headers={"Content-Type": "application/json"}, parts=(body,))


def data(chunk: Mapping[str, Any]) -> bytes:
    """Returns a chunk of a stream, with what all chunks have."""
    return f"data: {json.dumps({**_CHUNK, **chunk}, ensure_ascii=False)}\n\n".encode()


def delta(*, finish: str | None = None, **fields: Any) -> bytes:
    """Returns a chunk that says something: `content`, `role`, `refusal` and what else a delta has."""
    return data({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted"}


class Endpoint:
    """Listens on a free port of 127.0.0.1 while its block lasts."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: set[socket.socket] = set()
        self.requests: list[Request] = []
        """All that came, in order."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="endpoint")

    @property
    def url(self) -> str:
        """What a model's `url` is to be."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def wait_for(self, count: int) -> Request:
        """Returns the request of this number, once it has come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.requests) >= count, PATIENCE)
            assert came, f"request {count} did not come within {PATIENCE:g} s"
            return self.requests[count - 1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE)
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def answer(self, path: str, headers: Iterable[tuple[str, str]], body: dict[str, Any]) -> tuple[Request, Scripted]:
        """Records a request, and returns what it is answered. For the handler."""
        with self._changed:
            named = {name.lower(): value for name, value in headers}
            request = Request(path=path, headers=named, body=body, number=len(self.requests) + 1)
            self.requests.append(request)
            self._changed.notify_all()
        if not isinstance(self._script, Sequence):
            scripted = self._script(request)
        elif request.number <= len(self._script):
            scripted = self._script[request.number - 1]
        else:
            scripted = refuses(418, f"no answer is scripted for request {request.number}")
        return request, scripted

    def track(self, connection: socket.socket, *, is_open: bool) -> None:
        """Keeps in mind which connections are open. For the handler."""
        with self._lock:
            (self._open.add if is_open else self._open.discard)(connection)


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            endpoint.track(self.connection, is_open=True)

        def finish(self) -> None:
            endpoint.track(self.connection, is_open=False)
            with contextlib.suppress(OSError):
                super().finish()

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request, scripted = endpoint.answer(self.path, self.headers.items(), body)
            try:
                self._give(request, scripted)
            except OSError:
                request.gone.set()
                self.close_connection = True

        def _give(self, request: Request, scripted: Scripted) -> None:
            self.send_response(scripted.status)
            for name, value in scripted.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            if not scripted.parts or not isinstance(scripted.parts[0], Hold):
                self.end_headers()
                self.wfile.flush()
            for place, part in enumerate(scripted.parts):
                if isinstance(part, bytes):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
                elif isinstance(part, Hold):
                    if not part.wait(self.connection):
                        request.gone.set()
                        self.close_connection = True
                        return
                    if not place:
                        self.end_headers()
                else:
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own word for it
            """Writes nothing."""

    return Handler
