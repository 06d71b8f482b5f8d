"""Records the part of Triton's model configuration that we write, for test_triton_layout.py. Run by hand for a version.

`tritonclient` has the real one, but wants an older protobuf than ours, so it is asked in an environment of its own:

    pip install "tritonclient[grpc]"
    python tests/export/record_triton_descriptor.py
"""

import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

DESCRIPTOR = Path(__file__).with_name("triton_descriptor.json")
MESSAGES = ("ModelConfig", "ModelInput", "ModelOutput", "ModelInstanceGroup")
ENUMS = ("DataType",)


def main() -> None:
    module: Any = importlib.import_module("tritonclient.grpc.model_config_pb2")
    messages = [message(getattr(module, name).DESCRIPTOR) for name in MESSAGES]
    enums = [enum(module.DESCRIPTOR.enum_types_by_name[name]) for name in ENUMS]
    recorded = {
        "name": f"tritonclient-{importlib.metadata.version('tritonclient')}",
        "package": module.DESCRIPTOR.package,
        "syntax": "proto3",
        "messageType": messages,
        "enumType": enums,
    }
    DESCRIPTOR.write_text(json.dumps(recorded, indent=1) + "\n")


def message(found: Any) -> dict[str, Any]:
    """Its fields, but for those whose type is not recorded: a configuration of ours has none of them."""
    enums = [enum(each) for each in found.enum_types]
    named = {*(f"{found.full_name}.{each['name']}" for each in enums), *(f"inference.{n}" for n in (*MESSAGES, *ENUMS))}
    fields = []
    for field in found.fields:
        kind = field.message_type or field.enum_type
        if kind is None or kind.full_name in named:
            fields.append(one(field, kind))
    return {"name": found.name, "field": fields, "enumType": enums}


def one(field: Any, kind: Any) -> dict[str, Any]:
    label = "LABEL_REPEATED" if field.is_repeated else "LABEL_OPTIONAL"
    told = {"name": field.name, "number": field.number, "label": label, "type": field.type}
    return told if kind is None else {**told, "typeName": f".{kind.full_name}"}


def enum(found: Any) -> dict[str, Any]:
    return {"name": found.name, "value": [{"name": each.name, "number": each.number} for each in found.values]}


if __name__ == "__main__":
    main()
