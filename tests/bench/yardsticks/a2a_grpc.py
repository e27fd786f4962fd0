"""Agent2Agent over gRPC: an AgentExecutor of the a2a-sdk publishes updates of its task, its own client reads them.

As the SDK's samples show it: DefaultRequestHandler with an InMemoryTaskStore, a TaskUpdater, and a client that streams.
An event is an update of the one artifact, of about as many bytes as elsewhere; the last one completes the task. Each
update replaces the artifact: were it appended to, every later event would be slower, since the store copies the task
each time. Tracing is as the SDK brings it, on, with nobody listening; OTEL_INSTRUMENTATION_A2A_SDK_ENABLED=false is
faster.
"""

from __future__ import annotations

import time
from typing import Any

import grpc.aio
from a2a.client import ClientConfig, ClientFactory
from a2a.helpers import new_task_from_user_message, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Part,
    Role,
    SendMessageRequest,
    TaskState,
    a2a_pb2_grpc,
)
from tests.bench.event import TEXT
from tests.bench.subject import Disorder, Order, announce, drive_async, until_told

from . import program


class _Executor(AgentExecutor):
    def __init__(self, *, skip: int) -> None:
        self._skip = skip

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Publishes as many events as the caller's message says."""
        assert context.message is not None
        task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        events = int(context.get_user_input())
        for number in program.numbers(events - 1, skip=self._skip):
            await updater.add_artifact([Part(text=TEXT)], artifact_id="answer", name=str(number))
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nobody asks for it."""
        raise NotImplementedError


def _card(target: str) -> AgentCard:
    return AgentCard(
        name="Bench",
        description="Publishes as many updates as it is asked for.",
        version="1.0.0",
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="publish", name="Publish", description="Publishes updates.", tags=["bench"])],
        supported_interfaces=[AgentInterface(protocol_binding="GRPC", protocol_version="1.0", url=target)],
    )


async def serve(options: program.Options) -> None:
    """Serves until told to end."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    handler = DefaultRequestHandler(
        agent_executor=_Executor(skip=options.skip), task_store=InMemoryTaskStore(), agent_card=_card(target)
    )
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    await server.start()
    announce(target)
    await until_told()
    await server.stop(None)


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""
    config = ClientConfig(grpc_channel_factory=grpc.aio.insecure_channel, supported_protocol_bindings=["GRPC"])
    client = ClientFactory(config).create(_card(target))

    async def work(command: dict[str, Any]) -> dict[str, Any]:
        events = command["events"]
        order = Order(events)
        first = 0.0
        begun = time.perf_counter()
        request = SendMessageRequest(message=new_text_message(str(events), role=Role.ROLE_USER))
        async for response in client.send_message(request):
            first = first or time.perf_counter() - begun
            match response.WhichOneof("payload"):
                case "task":
                    pass  # The first message has the task, as it was submitted.
                case "artifact_update":
                    order.see(int(response.artifact_update.artifact.name), terminal=False)
                case "status_update":
                    done = response.status_update.status.state == TaskState.TASK_STATE_COMPLETED
                    order.see(order.seen + 1, terminal=done)
                case other:
                    raise Disorder(f"the agent sent {other}")
        order.finish()
        return {"events": order.seen, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}

    try:
        await drive_async(work)
    finally:
        await client.close()


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive)
