"""Protos of the tests as descriptor sets, compiled when they are needed.

Nothing generated is committed: what the tests need of it is one file of descriptors, made in a tenth of a second, and
messages come from those by protobuf's message factory.
"""

import importlib.util
import tempfile
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

TESTS = Path(__file__).parent
GOLDEN = TESTS.parent / "golden" / "gateway"


@cache
def compiled(file: str, *folders: Path) -> bytes:
    """A serialized FileDescriptorSet of a proto with its imports and comments."""
    packages = [Path(importlib.util.find_spec(name).origin).parent for name in ("grpc_tools", "google.api.http_pb2")]
    includes = [*folders, packages[0] / "_proto", packages[1].parent.parent]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "descriptors.binpb")
        arguments = [*(f"-I{include}" for include in includes), "--include_imports", "--include_source_info"]
        if protoc.main(["protoc", *arguments, f"--descriptor_set_out={out}", file]):
            raise ValueError(f"protoc refused {file}")
        return out.read_bytes()


def parity() -> bytes:
    return compiled("parity.proto", GOLDEN)


def described(text: str) -> FileDescriptorSet:
    """A descriptor set of a proto that a test wrote down."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test.proto").write_text(text)
        return FileDescriptorSet.FromString(compiled("test.proto", Path(folder)))


class Messages:
    """Message classes of a descriptor set, by their full names."""

    def __init__(self, data: bytes) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        for file in FileDescriptorSet.FromString(data).file:
            self.pool.AddSerializedFile(file.SerializeToString())

    def __getitem__(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))
