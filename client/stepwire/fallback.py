"""Whether a run is read from a stream or by polling: what streams have shown, judged without IO and without a clock.

Some proxies let no stream through: they keep what the server sends until the call ends, end each call after a second,
or refuse the method. A lost connection looks much the same, and is no reason to poll. What tells them apart is a
unary call that the server answers meanwhile:

1.  A stream is barren that ends without a new event and without a heartbeat. It is mute where it said nothing for too
    long, whatever it said before.
2.  After a mute stream, or two barren ones in a row, the next call is a question: a unary one.
3.  No answer: the server is away. All doubts are forgotten, and streams are tried as ever.
4.  An answer: one more stream is tried, on trial. It has little time to begin. Where that is barren or mute too, the
    run polls.
5.  A stream that the server itself refuses (it gives a reason) says nothing about streams, and is tried as ever.
6.  A stream that is refused as UNIMPLEMENTED without our ErrorInfo, so not by the server, needs no second one.
7.  While it polls, a stream is tried from time to time. It is believed once it has given a new event; after a mute
    one only a message that comes a whole heartbeat interval after it began counts, because a proxy that keeps things
    back lets some through when its buffer is full.

A page that does not come in time makes the next ones smaller: on a slow line a large one would be asked for again and
again. Those that come quickly make them larger.

Polling is ListEvents until all is read, and then WaitExecution as the pause: it returns at once at the end, says
whether there is news, and counts as watching. A pause begins at `poll_delay` and doubles while there is no news. Where
a proxy ends WaitExecution early, or the server has no room for it, shorter ones are tried, and then plain pauses.
"""

from __future__ import annotations

from typing import Literal

from google.rpc import code_pb2

from stepwire.errors import CallFailed, StepwireError
from stepwire.patience import Patience

__all__ = ["Delivery", "Fallback"]

Delivery = Literal["auto", "stream", "poll"]
"""How events come: over streams, by polling, or ("auto") over streams and by polling where they do not come through."""

_TRIAL = 3.0
"""Seconds in which a stream on trial must begin: while it is waited for nothing is asked."""
_CUT_FORGOTTEN = 10.0
"""Seconds for which a WaitExecution that was cut short makes later ones shorter: it may have been a passing fault."""
_PAGE = 512
"""The most events of a page, and how many there are where none is said."""
_LONGEST = 10
"""The wait for the next trial grows to so many times its first length."""


class Fallback:
    """What streams and questions have shown so far."""

    def __init__(self, delivery: Delivery, *, heartbeat: float, patience: Patience) -> None:
        self.polls = delivery == "poll"
        """True: the run polls."""
        self.asks = self.polls
        """True: the next call is a question. Where the run does not poll, it is asked whether the server is there."""
        self.chosen = delivery != "auto"
        """True: the caller wants it so, whatever is shown."""
        self._heartbeat = heartbeat
        self._patience = patience
        self._opened_at = 0.0
        self._believed = True
        self._barren = 0
        self._mute = False
        self._answered = False
        self._trial_at = 0.0
        self._trial_delay = patience.stream_delay
        self._pause = patience.poll_delay
        self._longest_wait = patience.max_poll_delay
        self._cut_at = 0.0
        self.page_size = 0
        """The most events to ask for at once. 0: as many as the server likes."""

    # -- streams

    def opening(self, usual: float) -> float:
        """Returns the seconds in which a stream must begin."""
        return min(usual, _TRIAL) if self._answered or self.polls else usual

    def opened(self, now: float) -> None:
        """Takes note that a stream was opened."""
        self._opened_at = now
        self._believed = False

    def heard(self, now: float, *, news: bool, heartbeat: bool) -> None:
        """Takes note of a message of a stream."""
        if heartbeat or now - self._opened_at >= self._heartbeat:
            self._mute = False
            news = True
        if news and not self._mute:
            self._believed = True
            self._barren = 0
            self._answered = False
            if not self.chosen:
                self.polls = self.asks = False
                self._trial_delay = self._patience.stream_delay
        elif news:
            self._barren = 0

    def lost(self, error: StepwireError | None, now: float, *, silent: bool) -> None:
        """Takes note that a stream ended too early: with an error, or None for OK."""
        # What the server itself refuses has come through to it, and back.
        refused = error is not None and error.reason != ""
        if self.chosen or (refused and not self.polls):
            return
        if silent:
            self._mute = True
        elif self._believed:
            return
        else:
            self._barren += 1
        if self.polls or self._answered or self.refuses(error):
            self._begin(now)
        else:
            self.asks = self._mute or self._barren >= 2

    def refuses(self, error: StepwireError | None) -> bool:
        """Tells whether a stream ended because something on the way does not know streams."""
        unknown = isinstance(error, CallFailed) and error.status_code == code_pb2.UNIMPLEMENTED
        return unknown and not self.chosen

    def _begin(self, now: float) -> None:
        """Polls, until the next trial."""
        self._trial_at = now + self._trial_delay
        self._trial_delay = min(2 * self._trial_delay, _LONGEST * self._patience.stream_delay)
        self._barren = 0
        self._answered = False
        self.polls = self.asks = True

    # -- questions

    def answered(self, now: float, *, news: bool) -> None:
        """Takes note that the server answered, and gave something new or not."""
        if news:
            self._pause = self._patience.poll_delay
        if now - self._cut_at >= _CUT_FORGOTTEN:
            self._longest_wait = self._patience.max_poll_delay
        if not self.polls:
            self._answered = True
            self.asks = False
        elif not self.chosen and now >= self._trial_at:
            self.asks = False

    def unanswered(self) -> None:
        """Takes note that a question was not answered: it is not the streams that are to blame."""
        if not self.polls:
            self._barren = 0
            self._mute = self._answered = self.asks = False

    def page_came(self, *, after: float, limit: float) -> None:
        """Takes note that a page came after so many seconds of its time limit."""
        if self.page_size and after < limit / 4:
            self.page_size = 2 * self.page_size if 2 * self.page_size < _PAGE else 0

    def page_late(self) -> None:
        """Takes note that a page did not come in time."""
        self.page_size = max(1, (self.page_size or _PAGE) // 4)

    def pause(self) -> float:
        """Returns the seconds until the next question, and makes the one after longer."""
        pause, self._pause = self._pause, min(2 * self._pause, self._patience.max_poll_delay)
        return pause

    @property
    def longest_wait(self) -> float:
        """The longest WaitExecution, in seconds, that has a chance to be answered. 0: none."""
        return self._longest_wait

    def cut_short(self, now: float, *, after: float) -> None:
        """Takes note that a WaitExecution ended without an answer after so many seconds."""
        self._cut_at = now
        self._longest_wait = after / 2 if after / 2 >= self._patience.poll_delay else 0.0
