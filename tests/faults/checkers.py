"""One function a promise: each takes a History and returns what breaks the promise, in words; nothing where it holds.

    P1 no lost acknowledgement        P7  ranges join               P13 cancels
    P2 dense                          P8  one terminal event        P14 every call ends
    P3 ordered for each client        P9  one request, one run      P15 bounded
    P4 agreement                      P10 one writer                P16 folding gives the state
    P5 durable before visible         P11 attempts and effects      P17 percentage
    P6 resumable                      P12 dependencies and pauses   P18 secrets

P5, P10, P13, P14, P15 and P18 are in `conduct`: they judge how a server behaves, more than what it gave. P12 and what
P1 says of pauses are in `pauses`, what it says of people's answers is in `answers`. What P12 and P17 say of plans that
grow, of conditions and of mapped steps is in `growth`.

The rules are written from the contract, and not from the server's code; P16 alone uses the server's Fold, since that is
what it is about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from stepwire.v1 import Event, ExecuteRequest, Execution, ExecutionState, StepSkipped
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.rerun import is_planned
from stepwire_server.engine.stamp import Stamp

from .answers import lost_answers
from .conduct import bounded, cancels, durable_before_visible, every_call_ends, one_writer, secrets
from .growth import growth, rebased
from .history import History, Stream, decoded, events_of
from .history import kind_of as _kind
from .parts import parts_of_steps
from .pauses import dependencies, lost_pauses

__all__ = ["CHECKERS", "check", "events_of"]

TERMINAL = {
    "plan_completed": ExecutionState.EXECUTION_STATE_COMPLETED,
    "plan_failed": ExecutionState.EXECUTION_STATE_FAILED,
    "plan_cancelled": ExecutionState.EXECUTION_STATE_CANCELLED,
}
ENDED = set(TERMINAL.values())
STEP_ENDS = {"step_completed", "step_failed", "step_skipped", "step_cancelled"}


def check(history: History) -> dict[str, list[str]]:
    """Returns the violations of every promise that is broken, by the promise's name."""
    found = {name: list(checker(history)) for name, checker in CHECKERS.items()}
    return {name: violations for name, violations in found.items() if violations}


def no_lost_acknowledgement(history: History) -> Iterator[str]:
    """P1: what a client was told is in the journal: accepted starts, events, the sequences of snapshots, cancels,
    pauses and their ends, answers to questions.
    """
    yield from lost_pauses(history)
    yield from lost_answers(history)
    for reply in history.replies:
        if reply.status != "OK" or not reply.execution_id:
            continue
        kept = history.journal.get(reply.execution_id)
        if kept is None and reply.execution_id in history.purged:
            continue
        if kept is None:
            yield f"{reply.method} was answered with {reply.execution_id}, which the journal does not have"
        elif reply.method == "CancelExecution" and not any(
            _kind(event) == "plan_cancelling" for event in events_of(kept)
        ):
            yield f"{reply.execution_id}: a cancel was accepted, and the journal has no plan_cancelling"
    for whose, _, snapshot in history.snapshots():
        kept = history.journal.get(snapshot.execution_id)
        if kept is None and snapshot.execution_id in history.purged:
            if snapshot.as_of_sequence > history.purged[snapshot.execution_id].last_sequence:
                yield f"{whose}: {snapshot.execution_id} as of {snapshot.as_of_sequence}; it had fewer events"
        elif kept is None:
            yield f"{whose}: a snapshot of {snapshot.execution_id}, which the journal does not have"
        elif snapshot.as_of_sequence > len(kept.frames):
            last = len(kept.frames)
            yield f"{whose}: {snapshot.execution_id} as of {snapshot.as_of_sequence}; the journal ends at {last}"
    held: dict[str, set[bytes]] = {kept.execution_id: set(kept.frames) for kept in history.journal.values()}
    for reply in history.replies:
        if reply.status == "NOT_FOUND" and reply.execution_id in history.journal.keys() - history.purged.keys():
            yield f"{reply.method}: {reply.execution_id} was not found, and the journal has it"
    for stream in history.streams:
        for frame in _frames(stream):
            if frame not in held.get(stream.execution_id, ()) and not _was_purged(history, frame):
                yield f"{stream.watcher}: event {_name(frame)} is not in the journal"
    for reading in history.readings:
        kept = history.journal.get(reading.execution_id)
        if kept is None and reading.execution_id in history.purged:
            continue
        events = {event.sequence: event for event in events_of(kept)} if kept else {}
        for data in reading.events:
            event = decoded(data)
            if events.get(event.sequence) != event:
                yield f"{reading.reader}: event {_name(data)} is not in the journal"


def dense(history: History) -> Iterator[str]:
    """P2: in the journal, an execution's sequences are 1 to n, without a hole and without a duplicate."""
    for kept in history.journal.values():
        sequences = [event.sequence for event in events_of(kept)]
        if sequences != list(range(1, len(sequences) + 1)):
            yield f"{kept.execution_id}: sequences {_first_odd(sequences, 1)}"
        if kept.last_sequence != len(kept.frames):
            yield f"{kept.execution_id}: the record says {kept.last_sequence}, there are {len(kept.frames)} events"
        place = 1
        for first, count in zip(kept.firsts, kept.counts, strict=True):
            if first != place:
                yield f"{kept.execution_id}: a chunk begins at {first}, not at {place}"
            place = first + count


def ordered(history: History) -> Iterator[str]:
    """P3: over all its streams, a watcher gets every event that passes its filter, in order and once."""
    for (watcher, execution_id), streams in _by_watcher(history).items():
        sequences = [decoded(frame).sequence for stream in streams for frame in _frames(stream)]
        after = streams[0].after
        if streams[0].kinds and execution_id in history.purged:
            if sequences != sorted(set(sequences)):
                yield f"{watcher}: of {execution_id} after {after} it got {sequences[:50]}"
        elif streams[0].kinds:
            covered = max((message.sequence for stream in streams for message in stream.messages), default=after)
            wanted = [
                event.sequence
                for event in events_of(history.journal[execution_id])
                if after < event.sequence <= covered and _passes(event, streams[0].kinds)
            ]
            if sequences != wanted:
                yield f"{watcher}: of {execution_id} after {after} it got {sequences[:50]}, not {wanted[:50]}"
        elif sequences != list(range(after + 1, after + 1 + len(sequences))):
            yield f"{watcher}: of {execution_id} after {after}: {_first_odd(sequences, after + 1)}"
    for reading in history.readings:
        sequences = [decoded(data).sequence for data in reading.events]
        if sequences != list(range(reading.after + 1, reading.after + 1 + len(sequences))):
            yield f"{reading.reader}: of {reading.execution_id}: {_first_odd(sequences, reading.after + 1)}"
        if reading.error and not (reading.execution_id in history.purged and "CursorExpired" in reading.error):
            yield f"{reading.reader}: of {reading.execution_id}: {reading.error}"


def agreement(history: History) -> Iterator[str]:
    """P4: the same sequence of an execution has the same bytes for all watchers, and in the journal."""
    known: dict[tuple[str, int], bytes] = {}
    for kept in history.journal.values():
        for frame in kept.frames:
            known.setdefault((kept.execution_id, decoded(frame).sequence), frame)
    for stream in history.streams:
        for frame in _frames(stream):
            place = (stream.execution_id, decoded(frame).sequence)
            if known.setdefault(place, frame) != frame:
                yield f"{stream.watcher}: other bytes for event {place[0]}/{place[1]}"


def resumable(history: History) -> Iterator[str]:
    """P6: a watch after k begins with what follows k, or is refused with OUT_OF_RANGE for a reason that is true."""
    shown: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for stream in history.streams:
        shown[stream.execution_id] += [(message.at, message.sequence) for message in stream.messages]
    for stream in history.streams:
        name = f"{stream.watcher}: the watch of {stream.execution_id} after {stream.after}"
        if stream.messages:
            first = stream.messages[0]
            if first.after != stream.after:
                yield f"{name} begins after {first.after}"
            got = next((decoded(frame).sequence for frame in _frames(stream)), None)
            if got is not None and not stream.kinds and got != stream.after + 1:
                yield f"{name} begins with {got}"
        if stream.status != "OUT_OF_RANGE":
            continue
        # A purge may come between two reads; nothing else may.
        if stream.messages and not (stream.reason == "CURSOR_EXPIRED" and stream.execution_id in history.purged):
            yield f"{name} was refused after it had begun"
        last = max((k for at, k in shown[stream.execution_id] if at < stream.began), default=0)
        if stream.reason == "CURSOR_AHEAD":
            if stream.after <= last:
                yield f"{name} was refused as ahead, and {last} had been shown before"
        elif stream.reason == "CURSOR_EXPIRED":
            kept = history.journal.get(stream.execution_id)
            true_first = kept.firsts[0] if kept and kept.firsts else None
            stone = history.purged.get(stream.execution_id)
            if stone is not None:
                true_first = stone.last_sequence + 1
                if stream.metadata.get("last_sequence") != str(stone.last_sequence):
                    yield f"{name}: the last sequence was said to be {stream.metadata}, and was {stone.last_sequence}"
            if true_first is None:
                yield f"{name} was refused as expired, and nobody purged it"
            if true_first is not None and stream.metadata.get("first_sequence") != str(true_first):
                yield f"{name}: the first sequence was said to be {stream.metadata}, and is {true_first}"
            if stone is None and true_first is not None and stream.after + 1 >= true_first:
                yield f"{name} was refused as expired, and its events are there"
        else:
            yield f"{name} was refused with {stream.reason or 'no reason'}"


def joined(history: History) -> Iterator[str]:
    """P7: a stream's ranges join, have its events, and go no further than what it was given."""
    journal = {execution_id: events_of(kept) for execution_id, kept in history.journal.items()}
    for stream in history.streams:
        covered = stream.after
        held = journal.get(stream.execution_id)
        name = f"{stream.watcher}: a stream of {stream.execution_id} after {stream.after}"
        for message in stream.messages:
            if message.after != covered:
                yield f"{name}: a message covers from {message.after}, the one before it up to {covered}"
            events = [decoded(frame) for frame in message.frames]
            sequences = [event.sequence for event in events]
            if sequences != sorted(set(sequences)) or any(
                not message.after < sequence <= message.sequence for sequence in sequences
            ):
                yield f"{name}: ({message.after}, {message.sequence}] has the events {sequences[:20]}"
            if message.sequence < message.after:
                yield f"{name}: ({message.after}, {message.sequence}] goes back"
            due = [
                event.sequence
                for event in (events if held is None else held[message.after : message.sequence])
                if _passes(event, stream.kinds)
            ]
            # Without a filter nothing may be covered that was not given, a heartbeat's range included.
            ahead = not stream.kinds and message.sequence != (sequences[-1] if sequences else message.after)
            if due != sequences or ahead:
                yield f"{name}: ({message.after}, {message.sequence}] gave {sequences[:20]}, not {due[:20]}"
            covered = message.sequence


def one_terminal(history: History) -> Iterator[str]:
    """P8: exactly one terminal event, the last, when every step has ended; all that anybody sees later says the same,
    and OK comes only then.
    """
    ends: dict[str, int] = {}
    for kept in history.journal.values():
        events = events_of(kept)
        kinds = [_kind(event) for event in events]
        places = [place for place, kind in enumerate(kinds, 1) if kind in TERMINAL]
        if len(places) > 1 or (places and places[0] != len(kinds)):
            yield f"{kept.execution_id}: terminal events at {places} of {len(kinds)}"
        left = _steps_of(events) - {event.step_id for event in events if _kind(event) in STEP_ENDS}
        if places and left:
            yield f"{kept.execution_id}: ended while the steps {sorted(left)} had not"
        if places:
            ends[kept.execution_id] = TERMINAL[kinds[places[0] - 1]]
        elif history.complete:
            yield f"{kept.execution_id}: no terminal event"
        if (kept.state in ENDED or places) and kept.state != ends.get(kept.execution_id):
            yield f"{kept.execution_id}: the record says {ExecutionState.Name(kept.state)}, the events do not"
    ends |= {stone.execution_id: stone.state for stone in history.purged.values()}
    over: dict[str, tuple[float, int]] = {}
    for whose, at, snapshot in sorted(history.snapshots(), key=lambda item: item[1]):
        if snapshot.state in ENDED and ends.get(snapshot.execution_id) != snapshot.state:
            yield f"{whose}: {snapshot.execution_id} was {ExecutionState.Name(snapshot.state)} and did not end so"
        if snapshot.state in ENDED:
            over.setdefault(snapshot.execution_id, (at, snapshot.state))
    for reply in history.replies:
        # A call that was sent after the end was known must tell it.
        if reply.execution and reply.execution_id in over and reply.sent > over[reply.execution_id][0]:
            state = Execution.FromString(reply.execution).state
            if state != over[reply.execution_id][1]:
                yield f"{reply.method}: {reply.execution_id} left its end for {ExecutionState.Name(state)}"
    for stream in history.streams:
        given = [_kind(decoded(frame)) for frame in _frames(stream)]
        count = sum(kind in TERMINAL for kind in given)
        if count > 1 or (count and given[-1] not in TERMINAL):
            yield f"{stream.watcher}: {count} terminal events of {stream.execution_id}, or not as the last"
        drained = bool(stream.messages) and stream.messages[-1].notice == 3
        was_over = bool(stream.messages) and Execution.FromString(stream.messages[0].execution).state in ENDED
        if stream.status == "OK" and not count and not drained and not was_over:
            yield f"{stream.watcher}: a stream of {stream.execution_id} ended OK before the terminal event"


def one_request_one_execution(history: History) -> Iterator[str]:
    """P9: a request id has one execution, for everybody who sent it and in the journal."""
    answers: dict[str, set[str]] = defaultdict(set)
    for reply in history.replies:
        if reply.request_id and reply.execution_id and reply.status == "OK":
            answers[reply.request_id].add(reply.execution_id)
    for stream in history.streams:
        if stream.request_id and stream.execution_id:
            answers[stream.request_id].add(stream.execution_id)
    kept: dict[str, set[str]] = defaultdict(set)
    for record in history.journal.values():
        if record.request_id:
            kept[record.request_id].add(record.execution_id)
    for stone in history.purged.values():
        if stone.request_id:
            kept[stone.request_id].add(stone.execution_id)
    for request_id in sorted(answers.keys() | kept.keys()):
        told, stored = answers[request_id], kept[request_id]
        if len(stored) > 1 or (told and told != stored):
            yield f"{request_id}: answered with {sorted(answers[request_id])}, kept as {sorted(kept[request_id])}"


def attempts(history: History) -> Iterator[str]:
    """P11: attempts count 1, 2, 3; nothing runs after its step has ended; at most once is at most once; and an attempt
    finds what was saved last before it began.
    """
    found: dict[tuple[str, str, int], int] = {}
    done: dict[tuple[str, str], int] = {}
    for kept in history.journal.values():
        tried: dict[str, int] = defaultdict(int)
        over: set[str] = set()
        saved: dict[str, int] = defaultdict(int)
        for event in events_of(kept):
            kind, name = _kind(event), f"{kept.execution_id}: step {event.step_id}"
            if kind == "step_started":
                tried[event.step_id] += 1
                found[kept.execution_id, event.step_id, event.attempt] = saved[event.step_id]
                if event.attempt != tried[event.step_id]:
                    yield f"{name}: attempt {event.attempt} where {tried[event.step_id]} was due"
                if event.step_id in over:
                    yield f"{name}: started again after its end, at {event.sequence}"
            elif event.step_id and event.attempt not in (0, tried[event.step_id]):
                yield f"{name}: {kind} of attempt {event.attempt} in attempt {tried[event.step_id]}"
            if kind == "step_saved":
                saved[event.step_id] = int(event.step_saved.state.number_value)
            if kind == "step_completed":
                done[kept.execution_id, event.step_id] = event.attempt
            if kind in STEP_ENDS:
                over.add(event.step_id)
    once: dict[tuple[str, str], int] = defaultdict(int)
    for effect in history.effects:
        place = (effect.execution_id, effect.step_id)
        if effect.at_most_once:
            once[place] += 1
        began_with = found.get((*place, effect.attempt))
        if effect.saved is not None and began_with is not None and effect.saved != began_with:
            text = f"found {effect.saved} in attempt {effect.attempt}, where {began_with} had been saved"
            yield f"{place[0]}: step {place[1]} {text}"
        if place in done and effect.attempt > done[place]:
            yield f"{place[0]}: step {place[1]} ran in attempt {effect.attempt}; {done[place]} had completed it"
    for place, count in once.items():
        if count > 1:
            yield f"{place[0]}: the at_most_once step {place[1]} had its effect {count} times"


def folding(history: History) -> Iterator[str]:
    """P16: folding the journal gives every event's envelope, every snapshot that was seen, and the record's."""
    states: dict[tuple[str, int], _State] = {}
    for kept in history.journal.values():
        planning = is_planned(ExecuteRequest.FromString(kept.request))
        fold = Fold(create_ns=kept.create_time_ns, planning=planning)
        states[kept.execution_id, 0] = _State.of(fold.snapshot())
        for event in events_of(kept):
            again = Event()
            again.CopyFrom(event)
            for name in ("sequence", "execution_state", "step_state", "progress"):
                again.ClearField(name)
            try:
                fold.apply(event, _kind(event), event.event_time.ToNanoseconds())
                Stamp(again).write(fold, again.step_id)
            except Exception as error:  # Whatever a fold raises: the events do not fit.
                yield f"{kept.execution_id}: event {event.sequence} does not fit: {error!r}"
                break
            if again != event:
                yield f"{kept.execution_id}: event {event.sequence} says otherwise than the fold"
            states[kept.execution_id, fold.sequence] = _State.of(fold.snapshot())
        else:
            if _State.of(Execution.FromString(kept.snapshot)) != states[kept.execution_id, fold.sequence]:
                yield f"{kept.execution_id}: the record's snapshot is not what its events give"
            if kept.state != fold.state:
                yield f"{kept.execution_id}: the record's state is not what its events give"
    for whose, _, snapshot in history.snapshots():
        state = states.get((snapshot.execution_id, snapshot.as_of_sequence))
        if state is not None and _State.of(snapshot) != state:
            yield f"{whose}: {snapshot.execution_id} as of {snapshot.as_of_sequence} is not what the events give"


def percentage(history: History) -> Iterator[str]:
    """P17: the percentage never decreases within a revision of the plan, is 100 exactly when all steps are done, and is
    what it was where nothing is done: in a pause, its end, and a takeover. A step is as far as its parts.
    """
    for kept in history.journal.values():
        yield from (f"{kept.execution_id}: {problem}" for problem in parts_of_steps(events_of(kept)))
        before, total, done = 0.0, 0, 0
        moment = 0
        for event in events_of(kept):
            kind, now = _kind(event), event.progress.percentage
            if kind == "plan_started":
                total = len(event.plan_started.plan.steps)
            elif kind == "plan_revised":
                yield from rebased(kept.execution_id, before, event)
                total, before = total + len(event.plan_revised.steps), 0.0
            elif kind == "step_completed":
                done += 1
            elif kind == "step_skipped":
                done += event.step_skipped.cause == StepSkipped.CAUSE_CONDITION
            if now < before:
                yield f"{kept.execution_id}: {now} % at {event.sequence}, after {before} %"
            if now != before and kind in ("plan_paused", "plan_resumed", "plan_recovered"):
                yield f"{kept.execution_id}: {kind} at {event.sequence} made {now} % of {before} %"
            if (now == 100) != (0 < total == done) or not 0 <= now <= 100:
                yield f"{kept.execution_id}: {now} % at {event.sequence} with {done} of {total} steps done"
            if event.event_time.ToNanoseconds() < moment:
                yield f"{kept.execution_id}: the time of {event.sequence} is before the one of the event before it"
            before, moment = now, event.event_time.ToNanoseconds()


def order(history: History) -> Iterator[str]:
    """P12: what starts, and when: see `pauses` and `growth`."""
    yield from dependencies(history)
    yield from growth(history)


CHECKERS: Mapping[str, Callable[[History], Iterator[str]]] = {
    "P1": no_lost_acknowledgement,
    "P2": dense,
    "P3": ordered,
    "P4": agreement,
    "P5": durable_before_visible,
    "P6": resumable,
    "P7": joined,
    "P8": one_terminal,
    "P9": one_request_one_execution,
    "P10": one_writer,
    "P11": attempts,
    "P12": order,
    "P13": cancels,
    "P14": every_call_ends,
    "P15": bounded,
    "P16": folding,
    "P17": percentage,
    "P18": secrets,
}
"""By the promise's number."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """What events say of an execution, without what its record says."""

    state: int
    sequence: int
    attempts: int
    percentage: float
    counts: tuple[int, ...]
    result: bytes = field(repr=False)

    @classmethod
    def of(cls, snapshot: Execution) -> _State:
        progress = snapshot.progress
        result = Execution(output=snapshot.output) if snapshot.HasField("output") else Execution(error=snapshot.error)
        return cls(
            state=snapshot.state,
            sequence=snapshot.as_of_sequence,
            attempts=snapshot.attempt_count,
            percentage=progress.percentage,
            counts=(
                progress.current_step,
                progress.total_steps,
                progress.completed_steps,
                progress.failed_steps,
                progress.skipped_steps,
            ),
            result=result.SerializeToString(deterministic=True),
        )


def _steps_of(events: list[Event]) -> set[str]:
    added = [step for event in events for step in (*event.plan_started.plan.steps, *event.plan_revised.steps)]
    return {step.id for step in added}


def _passes(event: Event, kinds: frozenset[str]) -> bool:
    return not kinds or _kind(event) in kinds or _kind(event) in TERMINAL


def _frames(stream: Stream) -> Iterator[bytes]:
    for message in stream.messages:
        yield from message.frames


def _was_purged(history: History, frame: bytes) -> bool:
    event = decoded(frame)
    stone = history.purged.get(event.execution_id)
    return stone is not None and event.sequence <= stone.last_sequence


def _by_watcher(history: History) -> dict[tuple[str, str], list[Stream]]:
    found: dict[tuple[str, str], list[Stream]] = defaultdict(list)
    for stream in history.streams:
        # A stream that asks for another place on purpose is a watcher of its own.
        if stream.messages:
            found[stream.watcher, stream.execution_id].append(stream)
    return found


def _name(frame: bytes) -> str:
    event = decoded(frame)
    return f"{event.execution_id}/{event.sequence} ({_kind(event)})"


def _first_odd(sequences: list[int], first: int) -> str:
    for place, sequence in enumerate(sequences, first):
        if sequence != place:
            return f"{sequence} where {place} was due"
    return "as they should be"
