"""The events of what a step streams."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepwire.v1 import Event
from stepwire_server.engine import pieces
from stepwire_server.engine.pieces import Pieces

_PIECES = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(["x" * pieces._KEPT_BYTES, "ä" * pieces._KEPT_BYTES, bytes(3_000)]),
)


class Made:
    """What gives messages, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Event:
        self.count += 1
        return Event(step_id="a", attempt=2)


@example([("x" * pieces._KEPT_BYTES, "", ""), ("", "", "")])
@given(st.lists(st.tuples(_PIECES, st.sampled_from(["", "b"]), st.sampled_from(["", "text/html"])), max_size=12))
def test_each_event_has_its_own_piece_and_nothing_of_another(said: list[tuple[str | bytes, str, str]]) -> None:
    """Whatever came before it, an event is the one that a message of its own would be."""
    made = Pieces(Made())
    offsets = {"": 0, "b": 0}
    for piece, channel, media_type in said:
        event = Event.FromString(
            made.event(piece, channel=channel, media_type=media_type).SerializeToString(deterministic=True)
        )
        alone = Event(step_id="a", attempt=2)
        alone.content.channel, alone.content.media_type, alone.content.offset = channel, media_type, offsets[channel]
        if isinstance(piece, str):
            alone.content.text = piece
        else:
            alone.content.data = piece
        assert event == alone
        offsets[channel] += len(piece.encode() if isinstance(piece, str) else piece)
    assert set(made._offsets) == {channel for _, channel, _ in said}


def test_a_message_is_filled_anew_only_so_often() -> None:
    """Pieces share messages, which keep what they were filled with: never more than the bound, and no large piece."""
    make = Made()
    made = Pieces(make)
    for _ in range(64):
        made.event("x" * 1024, channel="", media_type="")
    assert make.count == 64 * 1024 // pieces._KEPT_BYTES
    for size in (pieces._KEPT_BYTES, pieces._KEPT_BYTES + 1):
        large = made.event("x" * size, channel="", media_type="")
        assert made.event("", channel="", media_type="") is not large
        assert made.event("y", channel="", media_type="") is not large


def test_a_piece_that_is_none_takes_no_place() -> None:
    """A text that can't be sent, and what is neither text nor bytes, is refused, and the next one follows the last."""
    made = Pieces(Made())
    made.event("ab", channel="", media_type="")
    with pytest.raises(UnicodeEncodeError):
        made.event("\ud800", channel="", media_type="")
    with pytest.raises((TypeError, AttributeError)):
        made.event(7, channel="", media_type="")  # type: ignore[arg-type]
    content = made.event("c", channel="", media_type="").content
    assert (content.text, content.offset) == ("c", 2)
