"""`buf breaking`, as `make lint` runs it, finds what would break a client, and lets through what would not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from tests.e2e.serving import REPOSITORY, command

from stepwire.v1 import event_pb2, execution_pb2, execution_service_pb2, plan_pb2

MODULES = (event_pb2, execution_pb2, execution_service_pb2, plan_pb2)

Change = Callable[[dict[str, FileDescriptorProto]], None]


def contract() -> FileDescriptorSet:
    """Returns the contract with all that it imports, as protoc gives it."""
    image = FileDescriptorSet()
    for file in _with_imports([module.DESCRIPTOR for module in MODULES]):
        file.CopyToProto(image.file.add())
    return image


def _with_imports(files: list[FileDescriptor]) -> list[FileDescriptor]:
    found: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            visit(imported)
        found.setdefault(file.name, file)

    for file in files:
        visit(file)
    return list(found.values())


def breaking(folder: Path, change: Change) -> subprocess.CompletedProcess[str]:
    """Compares the contract after a change with the contract before it."""
    before, after = contract(), contract()
    change({file.name.rpartition("/")[2]: file for file in after.file})
    for name, image in (("before", before), ("after", after)):
        (folder / f"{name}.binpb").write_bytes(image.SerializeToString())
    # What stands in the Makefile, but for the files' names.
    arguments = ["breaking", "after.binpb", "--against", "before.binpb", "--config", f"{REPOSITORY}/protos/buf.yaml"]
    return subprocess.run([command("buf"), *arguments], cwd=folder, capture_output=True, text=True, timeout=30)


def message(files: dict[str, FileDescriptorProto], file: str, name: str) -> DescriptorProto:
    [found] = [message for message in files[file].message_type if message.name == name]
    return found


def field(files: dict[str, FileDescriptorProto], file: str, name: str, of: str) -> FieldDescriptorProto:
    [found] = [field for field in message(files, file, name).field if field.name == of]
    return found


def remove_field(files: dict[str, FileDescriptorProto]) -> None:
    message(files, "event.proto", "Progress").field.remove(field(files, "event.proto", "Progress", "failed_steps"))


def reserve_field(files: dict[str, FileDescriptorProto]) -> None:
    remove_field(files)
    progress = message(files, "event.proto", "Progress")
    progress.reserved_range.add(start=5, end=6)
    progress.reserved_name.append("failed_steps")


def renumber_field(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Progress", "failed_steps").number = 50


def rename_field(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Progress", "failed_steps").name = "broken_steps"


def change_json_name(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Progress", "failed_steps").json_name = "failed"


def change_type(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Progress", "failed_steps").type = FieldDescriptorProto.TYPE_INT64


def repeat_field(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Event", "message").label = FieldDescriptorProto.LABEL_REPEATED


def make_optional(files: dict[str, FileDescriptorProto]) -> None:
    event = message(files, "event.proto", "Event")
    event.oneof_decl.add(name="_message")
    optional = field(files, "event.proto", "Event", "message")
    optional.proto3_optional, optional.oneof_index = True, len(event.oneof_decl) - 1


def leave_oneof(files: dict[str, FileDescriptorProto]) -> None:
    field(files, "event.proto", "Event", "error").ClearField("oneof_index")


def remove_arm(files: dict[str, FileDescriptorProto]) -> None:
    message(files, "event.proto", "Event").field.remove(field(files, "event.proto", "Event", "stage"))


def remove_message(files: dict[str, FileDescriptorProto]) -> None:
    remove_arm(files)
    files["event.proto"].message_type.remove(message(files, "event.proto", "Stage"))


def remove_enum_value(files: dict[str, FileDescriptorProto]) -> None:
    del files["event.proto"].enum_type[0].value[-1]


def rename_enum_value(files: dict[str, FileDescriptorProto]) -> None:
    files["event.proto"].enum_type[0].value[-1].name = "STEP_STATE_ASKING"


def remove_rpc(files: dict[str, FileDescriptorProto]) -> None:
    del files["execution_service.proto"].service[0].method[-1]


def rename_rpc(files: dict[str, FileDescriptorProto]) -> None:
    files["execution_service.proto"].service[0].method[-1].name = "ReadStatistics"


def change_response(files: dict[str, FileDescriptorProto]) -> None:
    files["execution_service.proto"].service[0].method[-1].output_type = ".stepwire.v1.EventBatch"


def stream_response(files: dict[str, FileDescriptorProto]) -> None:
    files["execution_service.proto"].service[0].method[-1].server_streaming = True


BREAKS: dict[Change, str] = {
    remove_field: 'Previously present field "5" with name "failed_steps" on message "Progress" was deleted',
    reserve_field: 'Previously present field "5" with name "failed_steps" on message "Progress" was deleted',
    renumber_field: 'Previously present field "5" with name "failed_steps" on message "Progress" was deleted',
    rename_field: 'changed name from "failed_steps" to "broken_steps"',
    change_json_name: 'changed option "json_name"',
    change_type: 'changed type from "int32" to "int64"',
    repeat_field: 'changed cardinality from "optional with implicit presence" to "repeated"',
    make_optional: 'to "optional with explicit presence"',
    leave_oneof: "moved from inside to outside a oneof",
    remove_arm: 'Previously present field "55" with name "stage"',
    remove_message: 'Previously present message "Stage" was deleted',
    remove_enum_value: 'Previously present enum value "9" on enum "StepState" was deleted',
    rename_enum_value: 'changed name from "STEP_STATE_WAITING" to "STEP_STATE_ASKING"',
    remove_rpc: 'Previously present RPC "GetStatistics" on service "ExecutionService" was deleted',
    rename_rpc: 'Previously present RPC "GetStatistics" on service "ExecutionService" was deleted',
    change_response: "changed response type",
    stream_response: "changed from server unary to server streaming",
}


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_what_breaks_is_found(change: Change, tmp_path: Path) -> None:
    """A change that breaks a client is refused, with what it is."""
    done = breaking(tmp_path, change)
    assert done.returncode != 0
    assert BREAKS[change] in done.stdout + done.stderr


def add_all(files: dict[str, FileDescriptorProto]) -> None:
    """Adds a field, an arm, an enum value, a message and an rpc."""
    progress, event = message(files, "event.proto", "Progress"), message(files, "event.proto", "Event")
    progress.field.add(
        name="late_steps", json_name="lateSteps", number=60, type=FieldDescriptorProto.TYPE_INT32, label=1
    )
    event.field.add(
        name="stage_left",
        json_name="stageLeft",
        number=60,
        label=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".stepwire.v1.StageLeft",
        oneof_index=0,
    )
    files["event.proto"].message_type.add(name="StageLeft")
    files["event.proto"].enum_type[0].value.add(name="STEP_STATE_LATE", number=10)
    service = files["execution_service.proto"].service[0]
    service.method.add(
        name="Forget", input_type=".stepwire.v1.GetServerInfoRequest", output_type=".stepwire.v1.GetServerInfoResponse"
    )


def test_what_is_added_is_let_through(tmp_path: Path) -> None:
    """A field, an arm, an enum value, a message and an rpc may be added."""
    done = breaking(tmp_path, add_all)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_what_make_lint_runs() -> None:
    """The Makefile compares with the same rules, and fails where they are broken."""
    lint = (REPOSITORY / "Makefile").read_text("utf-8").partition("\nlint:")[2].partition("\n.PHONY")[0]
    assert "buf breaking build/image.binpb --against build/against.binpb --config protos/buf.yaml" in lint
