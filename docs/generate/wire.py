"""The wire protocol, from what the protobuf compiler says of protos/: every message, field and comment.

The compiler keeps comments in its descriptors when asked to (source_code_info), by the path of what they belong to. So
nothing is guessed from the text of the file.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from generate import ROOT, cell, table

PROTO = "maskstream/v1/maskstream.proto"
# Numbers of the fields of the descriptors, of which a path is made.
MESSAGES, ENUMS, SERVICES = 4, 5, 6  # of a file
FIELDS, NESTED, NESTED_ENUMS, ONEOFS = 2, 3, 4, 8  # of a message
MEMBERS = 2  # values of an enum, methods of a service
PACKAGE_COMMENT = (2,)
Address = tuple[int, ...]


class CannotCompile(Exception):
    """The compiler refused protos/."""


def compiled() -> FileDescriptorProto:
    """The descriptor of the protocol, with comments. Raises CannotCompile."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.pb"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), "--include_source_info"]
        said = subprocess.run(
            [*command, f"--descriptor_set_out={out}", PROTO], capture_output=True, text=True, check=False
        )
        if said.returncode != 0:
            raise CannotCompile(f"protos/{PROTO}: {said.stderr.strip()}")
        (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def page() -> str:
    """The whole reference, Markdown."""
    file = compiled()
    comments = _comments(file)
    parts = [
        "# Wire protocol\n",
        f"Package `{file.package}`, from `protos/{PROTO}`, with its comments. Client libraries for other languages are "
        "generated from that file.\n",
        comments.get(PACKAGE_COMMENT, "") + "\n",
    ]
    for index, service in enumerate(file.service):
        parts += _service(service, (SERVICES, index), comments)
    parts.append("## Messages\n")
    for index, message in enumerate(file.message_type):
        parts += _message(message, "", (MESSAGES, index), comments)
    parts.append("## Enums\n")
    for index, enum in enumerate(file.enum_type):
        parts += _enum(enum, "", (ENUMS, index), comments)
    return "\n".join(parts)


def _comments(file: FileDescriptorProto) -> dict[Address, str]:
    found = {}
    for place in file.source_code_info.location:
        text = " ".join(f"{place.leading_comments} {place.trailing_comments}".split())
        if text:
            found[tuple(place.path)] = text
    return found


def _heading(name: str, level: int = 3) -> str:
    return f"{'#' * level} {name} {{#{_anchor(name)}}}\n"


def _anchor(name: str) -> str:
    return name.lower().replace(".", "-")


def _link(type_name: str) -> str:
    """A type of this package as a link to its section, any other by its name."""
    name = type_name.removeprefix(".")
    own = name.removeprefix("maskstream.v1.")
    return f"[{own}](#{_anchor(own)})" if own != name else f"`{name}`"


def _service(service: ServiceDescriptorProto, at: Address, comments: dict[Address, str]) -> Iterator[str]:
    yield _heading(service.name, 2)
    yield comments.get(at, "") + "\n"
    rows = []
    for index, method in enumerate(service.method):
        asked = ("stream of " if method.client_streaming else "") + _link(method.input_type)
        answered = ("stream of " if method.server_streaming else "") + _link(method.output_type)
        rows.append((f"`{method.name}`", asked, answered, cell(comments.get((*at, MEMBERS, index), ""))))
    yield table(("method", "asked", "answered", ""), rows)


def _message(message: DescriptorProto, within: str, at: Address, comments: dict[Address, str]) -> Iterator[str]:
    name = within + message.name
    yield _heading(name)
    yield comments.get(at, "") + "\n"
    for index, oneof in enumerate(message.oneof_decl):
        said = comments.get((*at, ONEOFS, index), "")
        if said:
            yield f"One of `{oneof.name}`: {said}\n"
    rows = []
    for index, field in enumerate(message.field):
        said = cell(comments.get((*at, FIELDS, index), ""))
        rows.append((str(field.number), f"`{field.name}`", _type(field), _presence(field, message), said))
    yield table(("no.", "field", "type", "", ""), rows) if rows else "It has no fields.\n"
    for index, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{name}.", (*at, NESTED, index), comments)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.", (*at, NESTED_ENUMS, index), comments)


def _type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _link(field.type_name)
    return f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"


def _presence(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated"
    if field.proto3_optional:
        return "optional"
    return f"one of `{message.oneof_decl[field.oneof_index].name}`" if field.HasField("oneof_index") else ""


def _enum(enum: EnumDescriptorProto, within: str, at: Address, comments: dict[Address, str]) -> Sequence[str]:
    rows = [
        (str(value.number), f"`{value.name}`", cell(comments.get((*at, MEMBERS, index), "")))
        for index, value in enumerate(enum.value)
    ]
    return [_heading(within + enum.name), comments.get(at, "") + "\n", table(("no.", "value", ""), rows)]
