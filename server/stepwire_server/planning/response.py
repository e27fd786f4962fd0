"""The whole response to a request: what each part came to, what was done for it, and how long each stage took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stepwire_server.planning.calls import part_of
from stepwire_server.planning.plans import needs
from stepwire_server.planning.references import can_stand, substituted, written_out
from stepwire_server.planning.stages import BUILT_IN, Turn

__all__ = ["answers_of", "named", "response_of", "state_of"]

_VALUES = 384 * 1024
_LINE = 2_000
"""Characters of all values as JSON, and of one in a line for people."""


def answers_of(turn: Turn) -> list[dict[str, Any]]:
    """Returns what is answered to each part: `text`, `state`, and `value` or `error`."""
    return [{"text": answer["text"], **_outcome(answer["is"], turn)} for answer in turn.plan["answers"]]


def named(turn: Turn) -> dict[str, dict[str, Any]]:
    """Returns the results that have a name from now on, each with `text` and `value`."""
    found = {name: (given["text"], _outcome(given["is"], turn)) for name, given in turn.plan["names"].items()}
    return {
        name: {"text": text, "value": outcome["value"]}
        for name, (text, outcome) in found.items()
        if outcome["state"] == "completed"
    }


def state_of(answers: Sequence[Mapping[str, Any]]) -> str:
    """Returns what became of a request: `completed`, `failed`, or `partial`."""
    states = {answer["state"] for answer in answers} or {"completed"}
    if states == {"completed"}:
        return "completed"
    return "partial" if "completed" in states else "failed"


def response_of(turn: Turn, *, stages: Sequence[str], kept: Mapping[str, Any], began: float) -> dict[str, Any]:
    """Returns the response. `stages`: the names of all, in order. `began`: when `completion` did."""
    answers = answers_of(turn)
    times = _times(turn, stages, began)
    plan = turn.plan
    room = _Room()
    return {
        "request": turn.request,
        "state": state_of(answers),
        "text": _text(turn, answers),
        "answers": [room.fitted(answer) for answer in answers],
        "names": {name: room.fitted(given) for name, given in named(turn).items()},
        "calls": [
            room.fitted(
                {"id": call["id"], "tool": call["tool"], "input": call["input"], **_outcome_of(call["id"], turn)}
            )
            for call in plan["calls"]
        ],
        "session_id": turn.session_id,
        "remembered": kept,
        "own_stages": {name: _standing(turn.given[name]) for name in stages if name in turn.given.keys() - BUILT_IN},
        "stages": times,
        "slowest": max(times, key=lambda each: each["seconds"], default=None),
        "seconds": round(began - turn.began["start"], 6),
    }


class _Room:
    """What there is for the values of a response: it must fit into the event that the execution ends with."""

    def __init__(self) -> None:
        self._left = _VALUES

    def fitted(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Returns an entry, without those values that have no room, or are nested too deep for it; they stand in the
        output of the call's step.
        """
        sizes = {key: len(json.dumps(entry[key])) for key in ("value", "output", "input") if key in entry}
        kept = dict(entry)
        for key, size in sizes.items():
            if size > self._left or not can_stand(entry[key], "answers", "0", key):
                kept[key] = None
                kept["left_out"] = [*kept.get("left_out", ()), key]
            else:
                self._left -= size
        return kept


def _standing(given: Any) -> Any:
    """Returns what an author's stage gave; None where it is nested too deep to stand in the response, too."""
    return given if can_stand(given, "own_stages", "name") else None


def _times(turn: Turn, stages: Sequence[str], began: float) -> list[dict[str, Any]]:
    """Returns how long each stage took: `execution` until the next one began, since others' steps do its work."""
    begins = {**turn.began, stages[-1]: began}
    found = []
    for place, name in enumerate(stages[:-1]):
        seconds = begins[stages[place + 1]] - begins[name] if name == "execution" else turn.seconds[name]
        found.append({"stage": name, "seconds": round(max(0.0, seconds), 6)})
    return found


def _text(turn: Turn, answers: Sequence[Mapping[str, Any]]) -> str:
    plan = turn.plan

    def lookup(name: str) -> Any:
        call, _, field = name.partition("/")
        return part_of(turn.outcomes[call], field)

    if plan["answer"]:
        try:
            return written_out(substituted(plan["answer"], lookup, last=True))
        except (KeyError, ValueError):
            pass  # A call that it speaks of did not complete: the parts say which.
    told = [(answer["text"], answer.get("value", answer.get("error"))) for answer in answers]
    told += [(name, given["value"]) for name, given in named(turn).items()]
    return "\n".join(f"{text}: {written_out(value)[:_LINE]}" for text, value in told)


def _outcome(origin: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    if "call" not in origin:
        return {"state": "completed", "value": origin["value"]}
    outcome = _outcome_of(origin["call"], turn)
    if outcome["state"] != "completed":
        return {"state": outcome["state"], "error": outcome["error"]}
    try:
        return {"state": "completed", "value": part_of(outcome, origin["field"])}
    except ValueError as error:
        return {"state": "failed", "error": str(error)}


def _outcome_of(call: str, turn: Turn) -> dict[str, Any]:
    if call in turn.outcomes:
        return dict(turn.outcomes[call])
    planned = next(each for each in turn.plan["calls"] if each["id"] == call)
    why = ", ".join(name for name in needs(planned) if turn.outcomes.get(name, {}).get("state") != "completed")
    return {"state": "skipped", "error": f"it needs what call {why} did not give"}
