"""What steps made, put together from events."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.artifacts import Artifacts, as_text, channel_of
from stepwire.errors import StepwireError
from stepwire.terminal.views import PlainView
from stepwire.v1 import Event
from stepwire.values import to_value


def piece(text: str | bytes, *, channel: str = "artifact:page", step: str = "a") -> Event:
    event = Event(step_id=step, attempt=1)
    event.content.channel = channel
    if isinstance(text, str):
        event.content.text = text
    else:
        event.content.data = text
    return event


def end(data: bytes, *, name: str = "page", step: str = "a") -> Event:
    """Returns the event that names what came as content."""
    event = Event(step_id=step, attempt=1)
    event.artifact.name = name
    event.artifact.channel = f"artifact:{name}"
    event.artifact.media_type = "text/html"
    event.artifact.size = len(data)
    event.artifact.sha256 = hashlib.sha256(data).digest()
    return event


def within(value: object, media_type: str) -> Event:
    event = Event(step_id="a", attempt=2)
    event.artifact.name = "result"
    event.artifact.media_type = media_type
    if isinstance(value, bytes):
        event.artifact.data = value
    else:
        event.artifact.value.CopyFrom(to_value(value))
    return event


def step_event(kind: str) -> Event:
    event = Event(step_id="a", attempt=1)
    getattr(event, kind).SetInParent()
    return event


@pytest.mark.parametrize(
    ("value", "media_type", "data"),
    [
        (b"\x89PNG", "image/png", b"\x89PNG"),
        ({"b": 1, "a": "ü"}, "application/json", '{"a":"ü","b":1}'.encode()),
        ("x = 1\n", "text/x-python", b"x = 1\n"),
        ("x", "application/json", b'"x"'),
        ("x", "application/ld+json; charset=utf-8", b'"x"'),
        ("x", "Application/JSON", b'"x"'),
        ([1, 2.5, None], "text/plain", b"[1,2.5,null]"),
        ("", "text/plain", b""),
    ],
)
def test_what_travels_within_its_event(value: object, media_type: str, data: bytes) -> None:
    """Bytes are themselves, a text is itself where its media type is not JSON, and any other value is JSON."""
    made = Artifacts().add(within(value, media_type))
    assert made is not None
    assert (made.step_id, made.attempt, made.name, made.media_type) == ("a", 2, "result", media_type)
    assert made.data == data


def test_what_travels_as_content() -> None:
    """Pieces of text and bytes make a whole, whatever the other channels and steps say meanwhile."""
    artifacts = Artifacts()
    data = "grün".encode() + b"\xff"
    said = [piece("gr"), piece("no", channel="page"), piece("no", step="b"), piece("ün"), piece(b"\xff")]
    assert [artifacts.add(event) for event in said] == [None] * 5
    made = artifacts.add(end(data))
    assert made is not None
    assert (made.name, made.media_type, made.data) == ("page", "text/html", data)


@pytest.mark.parametrize(
    ("said", "came"), [([], "0"), ([piece("b")], "1"), ([piece("ab"), piece("c")], "3"), ([piece("ba")], "2")]
)
def test_pieces_that_are_missing(said: list[Event], came: str) -> None:
    """An artifact whose pieces did not all come, or not as they were, is refused with how many bytes came."""
    artifacts = Artifacts()
    for event in said:
        artifacts.add(event)
    with pytest.raises(StepwireError, match=f"artifact 'page' of step 'a' is incomplete: {came} of 2 bytes came"):
        artifacts.add(end(b"ab"))


@pytest.mark.parametrize(
    "kind", ["step_started", "step_retrying", "step_completed", "step_failed", "step_skipped", "step_cancelled"]
)
def test_pieces_of_an_attempt_that_ended(kind: str) -> None:
    """What an attempt said of an artifact that it did not finish is in no other attempt's artifact."""
    artifacts = Artifacts()
    for event in (piece("x"), step_event(kind), piece("ab")):
        artifacts.add(event)
    made = artifacts.add(end(b"ab"))
    assert made is not None
    assert made.data == b"ab"


@pytest.mark.parametrize("kind", ["step_progress", "step_saved", "stage", "agent"])
def test_pieces_stay_while_their_attempt_runs(kind: str) -> None:
    """Events with which an attempt does not end leave its pieces alone."""
    artifacts = Artifacts()
    for event in (piece("a"), step_event(kind), piece("b")):
        artifacts.add(event)
    made = artifacts.add(end(b"ab"))
    assert made is not None


def test_what_was_given_out_is_let_go_of() -> None:
    """The pieces of an artifact that is complete are held no longer."""
    artifacts = Artifacts()
    artifacts.add(piece("ab"))
    artifacts.add(end(b"ab"))
    with pytest.raises(StepwireError, match="0 of 2 bytes"):
        artifacts.add(end(b"ab"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_is_json(value: object) -> None:
    """What an artifact's JSON says is the value."""
    try:
        sent = to_value(value)
    except StepwireError:  # Deeper than the contract allows, or half a character.
        return
    assert json.loads(as_text(sent, media_type="application/json")) == value


def test_a_channel_that_is_taken() -> None:
    """Each artifact of an attempt has a channel of its own, also where names are used again."""
    taken = set[str]()
    for expected in ("artifact:page", "artifact:page#2", "artifact:page#3"):
        assert channel_of("page", taken=taken) == expected
        taken.add(expected)


def test_the_terminal_shows_no_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines name an artifact, and show other content, but none of an artifact's own."""
    with PlainView() as view:
        for event in (piece("of a page"), piece("said", channel=""), end(b"of a page")):
            view.show(event)
    assert capsys.readouterr().out == "said\n      made: page\n"


def test_an_artifact_in_a_log_is_short() -> None:
    """The text that Python has for an artifact leaves out its bytes."""
    made = Artifacts().add(within(bytes(1_000), "image/png"))
    assert len(repr(made)) < 200
