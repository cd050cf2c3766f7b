"""The messages of pprof's ``profile.proto``, as far as we write them.

No package has them, so the fields are said here, by the names and numbers of the published
description, and protobuf makes classes of them.
"""

from __future__ import annotations

from typing import Any

from corelock.extras import needs

with needs("report", "protobuf"):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "perftools.profiles"
# name: (number, type), a type with "*" is repeated; what is no scalar is a message.
_MESSAGES = {
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Label": {"key": (1, "int64"), "str": (2, "int64"), "num": (3, "int64")},
    "Sample": {
        "location_id": (1, "uint64*"), "value": (2, "int64*"), "label": (3, "Label*"),
    },
    "Mapping": {
        "id": (1, "uint64"), "memory_start": (2, "uint64"), "memory_limit": (3, "uint64"),
        "filename": (5, "int64"), "has_functions": (7, "bool"),
    },
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Location": {
        "id": (1, "uint64"), "mapping_id": (2, "uint64"), "address": (3, "uint64"),
        "line": (4, "Line*"),
    },
    "Function": {"id": (1, "uint64"), "name": (2, "int64")},
    "Profile": {
        "sample_type": (1, "ValueType*"), "sample": (2, "Sample*"), "mapping": (3, "Mapping*"),
        "location": (4, "Location*"), "function": (5, "Function*"), "string_table": (6, "string*"),
        "time_nanos": (9, "int64"), "duration_nanos": (10, "int64"), "comment": (13, "int64*"),
        "default_sample_type": (14, "int64"),
    },
}  # fmt: skip


def _profile_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="corelock/profile.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, type_) in fields.items():
            _add_field(message, field_name, number, type_)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))


def _add_field(message: Any, name: str, number: int, type_: str) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
    if type_.endswith("*"):
        field.label = kinds.LABEL_REPEATED
    type_ = type_.rstrip("*")
    if type_ in _MESSAGES:
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
    else:
        field.type = kinds.Type.Value(f"TYPE_{type_.upper()}")


Profile = _profile_class()
