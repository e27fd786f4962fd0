"""A LangGraph graph as an operation.

from stepwire_server import App
from stepwire_server.bridges import langgraph_operation

app = App("research")
langgraph_operation(app, "research", graph)

What a graph does becomes events of its step, in the order in which it happened:

    a node's update                     stage: the node's path ("team/writer"), its update as `state_update`
    a dict with percentage or message,  step_progress; stage, current, total and unit likewise, the rest as data
      from a node's stream writer
    anything else from it               stage "custom"
    the text of a model, as it comes    content; its channel is the node's path, "writer#2" for a second message of it
    interrupt(...)                      input_requested, and the answer resumes the graph
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from stepwire_server import App, StepContext
from stepwire_server.bridges.interrupts import Questions
from stepwire_server.bridges.plain import bounded, whole
from stepwire_server.bridges.queue import Queue

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

__all__ = ["langgraph_operation"]

_NOTE = re.compile(r"During task with name '(.*)' and id '[^']*'")
"""What LangGraph notes on an exception, once for each graph that it leaves."""


def langgraph_operation(
    app: App,
    name: str,
    graph: Pregel[Any, Any, Any, Any],
    *,
    input: Callable[..., Any] | None = None,  # noqa: A002 - the operation's own word for it
    select: str = "",
    checkpointer: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    context: Any = None,
    description: str = "",
    **options: Any,
) -> None:
    """Registers a compiled graph as an operation. Its nodes may also speak by `current_step()`.

    `input`: makes the graph's input; its parameters are the operation's. Without it these are the keys of the graph's
    input, none of which has to be given. `select`: the key of the final state that is the output; without it all of the
    graph's output is, with messages as dicts. `config` and `context`: LangGraph's own, such as `recursion_limit`, and
    what the graph's `context_schema` has. `options`: as for `App.operation`.

    With a checkpointer another attempt, also after a crash, goes on with the first node that had not ended, a pause
    holds the graph between its nodes, and the graph may interrupt itself. `checkpointer` opens one for each attempt,
    for those that have to be opened in an event loop: `lambda: AsyncSqliteSaver.from_conn_string("graph.db")`. Its
    threads are named after execution and step.

    Raises ImportError where LangGraph is not installed.
    """
    try:
        import langgraph.types  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        raise ImportError(
            f"operation {name!r} is a graph of LangGraph, which is not installed: "
            'pip install "stepwire[server,langgraph]"'
        ) from None
    make, parameters = (input, _parameters_of(input)) if input else _keys_of(graph)

    async def operation(step: StepContext, **given: Any) -> Any:
        made = make(**given)
        first = await made if inspect.isawaitable(made) else made
        async with AsyncExitStack() as stack:
            used = graph
            if checkpointer is not None:
                used = graph.copy(update={"checkpointer": await stack.enter_async_context(checkpointer())})
            output = await _Run(step, used, config or {}, context).output(first)
        if select:
            return whole(_selected(output, select))
        return whole(output)

    step_parameter = inspect.Parameter("step", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=StepContext)
    operation.__signature__ = inspect.Signature([step_parameter, *parameters])  # type: ignore[attr-defined]
    operation.__doc__ = description or (inspect.getdoc(input) if input else None) or f"Run the graph {name}."
    app.operation(name, **options)(operation)


class _Run:
    """One attempt of one graph."""

    def __init__(
        self, step: StepContext, graph: Pregel[Any, Any, Any, Any], config: Mapping[str, Any], context: Any
    ) -> None:
        self._step = step
        self._graph = graph
        self._more: Any = {"context": context, "stream_mode": ["updates", "custom", "messages", "values"]}
        if graph.checkpointer:
            # A node that has ended is kept before the next begins.
            self._more["durability"] = "sync"
        thread = {"thread_id": f"{step.execution_id}/{step.id}"}
        self._config: Any = {**config, "configurable": {**config.get("configurable", {}), **thread}}
        self._state: Any = None
        self._channels: dict[str, list[str]] = {}
        self._queue = Queue()

    async def output(self, first: Any) -> Any:
        """Runs the graph to its end, from where an earlier attempt left it. Returns its final output."""
        given, goes_on = first, False
        snapshot = await self._graph.aget_state(self._config) if self._graph.checkpointer else None
        if snapshot is not None and snapshot.created_at is not None:
            given, goes_on = None, True
        questions = Questions(self._step, goes_on=goes_on)
        while await self._interrupted(given):
            if not self._graph.checkpointer:
                raise RuntimeError(
                    "the graph interrupts itself to be resumed, and that needs a checkpointer: compile it with one, "
                    "such as InMemorySaver(), or give langgraph_operation(..., checkpointer=...)"
                )
            given = await self._resumed(await self._graph.aget_state(self._config), questions)
        return self._shown()

    async def _resumed(self, snapshot: Any, questions: Questions) -> Any:
        from langgraph.types import Command

        if not snapshot.interrupts:  # A breakpoint: nothing is asked.
            return None
        nodes = {interrupt.id: task.name for task in snapshot.tasks for interrupt in task.interrupts}
        return Command(resume=await questions.answer(snapshot.interrupts, nodes))

    async def _interrupted(self, given: Any) -> bool:
        """Streams the graph until it ends or interrupts itself, and returns which."""
        interrupted = False
        parts: Any = self._graph.astream(given, self._config, subgraphs=True, **self._more)
        try:
            with self._step.behind(self._queue.said):
                async with aclosing(self._queue.read(parts)) as reading:
                    async for namespace, mode, part in reading:
                        interrupted |= mode == "updates" and "__interrupt__" in part
                        await self._tell(_names(namespace), mode, part)
        except Exception as error:
            _note_node(error)
            raise
        return interrupted

    async def _tell(self, path: list[str], mode: str, part: Any) -> None:
        match mode:
            case "values" if not path:
                self._state = part
            case "updates":
                for node, update in part.items():
                    if node not in ("__interrupt__", "__metadata__"):
                        await self._step.stage("/".join([*path, node]), data={"state_update": bounded(update)})
                if not path and self._graph.checkpointer:
                    # While nobody reads on, LangGraph starts no further node; what runs now ends.
                    await self._step.pausepoint()
            case "custom":
                await self._tell_custom("/".join(path), part)
            case "messages":
                await self._tell_message(*part)

    async def _tell_custom(self, graph: str, part: Any) -> None:
        report = _report(part)
        if report is None:
            data = bounded(part if isinstance(part, Mapping) else {"value": part})
            await self._step.stage("custom", details=graph, data=data)
        else:
            await self._step.progress(**report)

    async def _tell_message(self, message: Any, metadata: Mapping[str, Any]) -> None:
        if message.type not in ("ai", "AIMessageChunk") or not (text := _text(message.content)):
            return
        path = "/".join(_names(metadata["langgraph_checkpoint_ns"].split("|")))
        known = self._channels.setdefault(path, [])
        if message.id not in known:
            known.append(message.id)
        number = known.index(message.id) + 1
        await self._step.content(text, channel=path if number == 1 else f"{path}#{number}")

    def _shown(self) -> Any:
        """Returns of the state what the graph's output has."""
        shown = self._graph.output_channels
        if isinstance(shown, str) or not isinstance(self._state, Mapping):
            return self._state
        return {key: self._state[key] for key in shown if key in self._state}


def _names(namespace: Iterable[str]) -> list[str]:
    """Returns the nodes of a namespace, whose parts are NODE:TASK."""
    return [part.partition(":")[0] for part in namespace if part]


def _report(part: Any) -> dict[str, Any] | None:
    """Returns the arguments of `progress` for a dict that is a report; None for anything else."""
    if not isinstance(part, Mapping) or not ({"percentage", "message"} & part.keys()):
        return None
    rest = dict(part)
    report: dict[str, Any] = {}
    for name, kinds in _REPORT.items():
        value = rest.pop(name, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, kinds):
            return None
        if isinstance(value, str):
            report[name] = bounded(value)
        elif abs(value) <= 2**53:
            report[name] = value
        else:  # Nor is what is no number at all.
            return None
    if not 0 <= report.get("percentage", 0) <= 100:
        return None
    return report | {"data": bounded(rest)}


_REPORT: dict[str, Any] = {
    "percentage": int | float,
    "message": str,
    "stage": str,
    "current": int | float,
    "total": int | float,
    "unit": str,
}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    pieces = (item if isinstance(item, str) else item.get("text", "") for item in content)
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _note_node(error: Exception) -> None:
    """Says in which node an exception was raised, instead of in which tasks."""
    notes = getattr(error, "__notes__", [])
    found = [match.group(1) for note in notes if (match := _NOTE.fullmatch(note))]
    if found:
        # The innermost graph notes first.
        error.__notes__ = [note for note in notes if not _NOTE.fullmatch(note)]
        error.add_note(f"in node {'/'.join(reversed(found))!r} of the graph")


def _selected(output: Any, key: str) -> Any:
    if isinstance(output, Mapping) and key in output:
        return output[key]
    there = ", ".join(map(str, output)) if isinstance(output, Mapping) else f"no keys ({type(output).__name__})"
    raise KeyError(f"the graph's final state has no {key!r} to select; it has: {there}")


def _parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _keys_of(graph: Pregel[Any, Any, Any, Any]) -> tuple[Callable[..., Any], list[inspect.Parameter]]:
    """Returns what makes a graph's input of its keys, and these as parameters."""
    schema = getattr(getattr(graph, "builder", None), "input_schema", None)
    hints = typing.get_type_hints(schema) if isinstance(schema, type) else {}
    named = inspect.Parameter.KEYWORD_ONLY
    if not hints:
        # A graph of another kind, such as an entrypoint: one value.
        return lambda input: input, [inspect.Parameter("input", named)]  # noqa: A006 - the operation's own word
    parameters = [
        inspect.Parameter(key, named, default=None, annotation=_checked(hint))
        for key, hint in hints.items()
        if hasattr(graph.channels.get(key), "update")  # Others are LangGraph's own, such as the steps that are left.
    ]
    return lambda **given: {key: value for key, value in given.items() if value is not None}, parameters


def _checked(hint: Any) -> Any:
    """Returns an annotation by which an input can be checked: anything where it is of messages, which LangGraph takes
    in many forms, or where it can't be checked.
    """
    if "langchain_core" in repr(hint):
        return Any
    try:
        TypeAdapter(hint).json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema, NameError, TypeError):
        return Any
    return hint
