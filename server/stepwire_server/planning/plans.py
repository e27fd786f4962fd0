"""Plans of calls: their form, how rules make one, and what is checked before anything of one runs.

{"calls": [{"id": "1", "text": "12 * 7", "tool": "calculate", "input": {"expression": "12 * 7"}, "after": []},
           {"id": "2", "text": "add 5 to it", "tool": "calculate", "input": {"expression": "(${1}) + 5"}, "after": []}],
 "answers": [{"text": "12 * 7", "is": {"call": "1", "field": ""}}, ...],
 "names": {"total": {"text": "add 5 to it", "is": {"call": "2", "field": ""}}},
 "answer": ""}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepwire.errors import Violation
from stepwire_server.planning.expressions import reference
from stepwire_server.planning.references import mentioned, substituted
from stepwire_server.tools import Toolbox

__all__ = ["MAX_CALLS", "needs", "plan_by_rules", "violations", "waves"]

MAX_CALLS = 50
"""Calls of one plan."""

_MAX_INPUT = 64 * 1024
_MAX_INPUTS = 256 * 1024
"""Characters of one call's input as JSON, and of all: they stand in the execution's plan."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


def plan_by_rules(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the plan for the parts of a request, as `analysis.resolve` gives them."""
    calls = [
        {"id": part["id"], "text": part["text"], "tool": part["tool"], "input": part["input"], "after": []}
        for part in parts
        if part["act"] == "call"
    ]
    answers = [
        {"text": part["text"], "is": {"call": part["id"], "field": part["field"]} if "id" in part else part["is"]}
        for part in parts
        if part["act"] != "name"
    ]
    names = {part["name"]: {"text": part["of"], "is": part["is"]} for part in parts if part["act"] == "name"}
    return {"calls": calls, "answers": answers, "names": names, "answer": ""}


def needs(call: Mapping[str, Any]) -> list[str]:
    """Returns the ids of the calls that one waits for: those it refers to, and those it is to come after."""
    referred = (name.partition("/")[0] for name in mentioned(call["input"]))
    return list(dict.fromkeys([*referred, *call["after"]]))


def waves(calls: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Returns the ids of calls in the order in which they can run, those together that can run side by side. Those that
    wait for each other in a circle are left out.
    """
    left = {call["id"]: set(needs(call)) for call in calls}
    found: list[list[str]] = []
    while ready := [name for name, waited in left.items() if not waited & left.keys()]:
        found.append(ready)
        for name in ready:
            del left[name]
    return found


def violations(plan: Mapping[str, Any], toolbox: Toolbox) -> list[Violation]:
    """Returns everything that is wrong with a plan, each with its field; nothing where it can run."""
    calls = plan["calls"]
    if not (calls or plan["answers"] or plan["names"] or plan["answer"]):
        return [Violation("calls", "is empty, and there is no answer either")]
    if len(calls) > MAX_CALLS:
        return [Violation("calls", f"has {len(calls)} calls; at most {MAX_CALLS} are allowed")]
    ids = [call["id"] for call in calls]
    found: list[Violation] = []
    for place, call in enumerate(calls):
        field = f"calls[{place}]"
        if not _ID.fullmatch(call["id"]):
            found.append(Violation(f"{field}.id", f"{call['id'][:80]!r} does not match [A-Za-z0-9_-]{{1,40}}"))
        elif call["id"] in ids[:place]:
            found.append(Violation(f"{field}.id", f"another call is {call['id']!r}, too"))
        found += _call_violations(call, field, ids, toolbox)
    size = sum(len(json.dumps(call["input"])) for call in calls)
    if size > _MAX_INPUTS:
        found.append(Violation("calls", f"their inputs have {size:,} characters; at most {_MAX_INPUTS:,} are allowed"))
    if not found:
        stuck = sorted(set(ids) - {name for wave in waves(calls) for name in wave})
        found += [Violation("calls", f"wait for each other in a circle: {', '.join(stuck)}")] if stuck else []
    for name, named in plan["names"].items():
        if reference(name) != f"${{name:{name}}}":
            found.append(Violation(f"names.{name[:80]}", "is no name for a result: one word of letters and digits"))
        if "call" in named["is"] and named["is"]["call"] not in ids:
            found.append(Violation(f"names.{name[:80]}", f"there is no call {named['is']['call'][:80]!r}"))
    found += [
        Violation("answer", f"refers to ${{{name}}}, and there is no such call")
        for name in mentioned(plan["answer"])
        if name.partition("/")[0] not in ids
    ]
    return found


def _call_violations(call: Mapping[str, Any], field: str, ids: Sequence[str], toolbox: Toolbox) -> list[Violation]:
    found: list[Violation] = []
    for name in mentioned(call["input"]):
        if name.partition("/")[0] not in ids:
            text = f"refers to ${{{name}}}, and there is no such call; write $${{ for ${{"
            found.append(Violation(f"{field}.input", text))
    for name in call["after"]:
        if name not in ids:
            found.append(Violation(f"{field}.after", f"there is no call {name[:80]!r}"))
    if call["id"] in needs(call):
        found.append(Violation(field, "waits for itself"))
    size = len(json.dumps(call["input"]))
    if size > _MAX_INPUT:
        return [*found, Violation(f"{field}.input", f"has {size:,} characters; at most {_MAX_INPUT:,} are allowed")]
    if call["tool"] not in toolbox:
        known = ", ".join(sorted(tool.name for tool in toolbox))
        text = f"there is no tool {call['tool'][:80]!r}; there are: {known[:1_000]}"
        return [*found, Violation(f"{field}.tool", text)]
    literal = {key: value for key, value in call["input"].items() if not mentioned(value)}
    # What a reference gives is checked when it is there, before the tool is called.
    later = {key: value for key, value in call["input"].items() if key not in literal}
    try:
        plain = substituted(literal, str, last=True)
        return found + toolbox[call["tool"]].signature.check(plain, path=f"{field}.input", given_later=later)
    except ValueError as error:
        return [*found, Violation(f"{field}.input", f"can't be checked: {error}")]
