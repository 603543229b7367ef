"""The protobuf messages of SageMaker's recordio-protobuf format, parsed by the protobuf library.

The parts of the schema that a table needs are built here, from the `record.proto` that the SageMaker SDK publishes.
Importing the SDK's generated module would import the whole SDK, which takes two seconds instead of a twentieth.
"""

import functools
from pathlib import Path
from typing import Any

from subset_trainer.data.formats import recordio

KEY = "values"
"""The key of features and labels without names of their own."""


def holds_messages(path: Path) -> bool:
    """Whether the first record of a RecordIO file is such a message, rather than one of MXNet's images."""
    try:
        with path.open("rb") as file:
            # A message begins with one of its fields; an image record, which may be large, rarely begins so.
            if recordio.read(file, 0, 1) not in (b"\x0a", b"\x12"):
                return False
            message = message_class().FromString(recordio.read(file, 0))
    except Exception:  # protobuf's errors have no other common base class
        return False
    return KEY in message.features


@functools.cache
def message_class() -> Any:
    """The class of records, in its own descriptor pool, since the SDK's module may use the name in the default one."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    one, many, message = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")
    packed = descriptor_pb2.FieldOptions(packed=True)
    tensors = {
        "Float32Tensor": (field.TYPE_FLOAT, "float32_tensor", 2),
        "Float64Tensor": (field.TYPE_DOUBLE, "float64_tensor", 3),
        "Int32Tensor": (field.TYPE_INT32, "int32_tensor", 7),
    }
    for name, (of, _, _) in tensors.items():
        tensor = file.message_type.add(name=name)
        tensor.field.add(name="values", number=1, label=many, type=of, options=packed)
        tensor.field.add(name="keys", number=2, label=many, type=field.TYPE_UINT64, options=packed)
        tensor.field.add(name="shape", number=3, label=many, type=field.TYPE_UINT64, options=packed)
    held = file.message_type.add(name="Bytes")
    held.field.add(name="value", number=1, label=many, type=field.TYPE_BYTES)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    kinds = {attribute: (name, number) for name, (_, attribute, number) in tensors.items()}
    for attribute, (name, number) in {**kinds, "bytes": ("Bytes", 9)}.items():
        value.field.add(
            name=attribute,
            number=number,
            label=one,
            type=message,
            type_name=f".aialgs.data.{name}",
            oneof_index=0,
        )
    record = file.message_type.add(name="Record")
    for number, (attribute, entry) in enumerate(
        {"features": "FeaturesEntry", "label": "LabelEntry"}.items(), 1
    ):
        pair = record.nested_type.add(name=entry, options=descriptor_pb2.MessageOptions(map_entry=True))
        pair.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
        pair.field.add(name="value", number=2, label=one, type=message, type_name=".aialgs.data.Value")
        record.field.add(
            name=attribute, number=number, label=many, type=message, type_name=f".aialgs.data.Record.{entry}"
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))
