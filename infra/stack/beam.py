"""Beam's servers for Python functions, held to loopback.

Flink talks to its Python workers through Beam. Beam's ServerFactory takes the loopback address, tells it to the workers, and then opens the
servers on every interface, because it hands on the port alone: `NettyServerBuilder.forPort(address.getPort())`. Neither Beam 2.61 nor
Flink 2.3 has a setting for that. So the one class is taken from Flink's own archive, the call in it becomes `forAddress(address)`, and
what comes out stands before that archive on the class path. docs/adr/0008 says why not otherwise.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

CLASS = "org/apache/beam/sdk/fn/server/ServerFactory$InetSocketAddressServerFactory.class"
BUILDER = "org/apache/beam/vendor/grpc/v1p60p1/io/grpc/netty/NettyServerBuilder"
UTF8, LONG, DOUBLE, METHOD, NAME_AND_TYPE = 1, 5, 6, 10, 12
SIZES = {3: 4, 4: 4, LONG: 8, DOUBLE: 8, 7: 2, 8: 2, 9: 4, METHOD: 4, 11: 4, NAME_AND_TYPE: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
"""Bytes of a constant after its tag (Java virtual machine specification, 4.4); a UTF8 says its own."""
GET_PORT, FOR_PORT = ("java/net/InetSocketAddress", "getPort", "()I"), (BUILDER, "forPort", f"(I)L{BUILDER};")
FOR_ADDRESS = ("forAddress", f"(Ljava/net/SocketAddress;)L{BUILDER};")
INVOKE_VIRTUAL, INVOKE_STATIC, NOP = b"\xb6", b"\xb8", b"\x00"


class UnknownClass(RuntimeError):
    """The class is not the one that is known here."""


def write_jar(flink_python: Path, to: Path) -> Path:
    """Write the archive that goes before `flink_python` on the class path. Raises UnknownClass."""
    with zipfile.ZipFile(flink_python) as archive:
        held = held_to_address(archive.read(CLASS))
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr(zipfile.ZipInfo(CLASS), held)
    return to


def held_to_address(code: bytes) -> bytes:
    """The class file with its one `forPort(address.getPort())` turned into `forAddress(address)`. Raises UnknownClass."""
    constants, end = _constants(code)

    def text(index: int) -> str:
        return constants[index][1].decode()

    def method(value: bytes) -> tuple[str, ...]:
        class_, described = struct.unpack(">HH", value)
        name, type_ = struct.unpack(">HH", constants[described][1])
        return text(struct.unpack(">H", constants[class_][1])[0]), text(name), text(type_)

    methods = {method(value): index for index, (tag, value, _) in constants.items() if tag == METHOD}
    try:
        get_port, for_port = methods[GET_PORT], methods[FOR_PORT]
    except KeyError as missing:
        raise UnknownClass(f"{CLASS} does not call {missing}") from None
    # Constants are only added: the name, its type, the two together; the call's own constant then points there.
    first = struct.unpack_from(">H", code, 8)[0]
    added = b"".join(struct.pack(">BH", UTF8, len(word)) + word.encode() for word in FOR_ADDRESS)
    added += struct.pack(">BHH", NAME_AND_TYPE, first, first + 1)
    pool = bytearray(code[10:end])
    struct.pack_into(">H", pool, constants[for_port][2] - 10 + 3, first + 2)
    before = INVOKE_VIRTUAL + struct.pack(">H", get_port) + INVOKE_STATIC + struct.pack(">H", for_port)
    if code.count(before, end) != 1:
        raise UnknownClass(f"{CLASS} calls {FOR_PORT[1]} otherwise than once with {GET_PORT[1]}")
    body = code[end:].replace(before, NOP * 3 + before[3:])
    return code[:8] + struct.pack(">H", first + 3) + bytes(pool) + added + body


def _constants(code: bytes) -> tuple[dict[int, tuple[int, bytes, int]], int]:
    """The constant pool, index → (tag, value, where its tag stands), and where the pool ends."""
    if code[:4] != b"\xca\xfe\xba\xbe":
        raise UnknownClass(f"{CLASS} is no class file")
    found: dict[int, tuple[int, bytes, int]] = {}
    index, at = 1, 10
    while index < struct.unpack_from(">H", code, 8)[0]:
        tag = code[at]
        start, size = (at + 3, struct.unpack_from(">H", code, at + 1)[0]) if tag == UTF8 else (at + 1, SIZES[tag])
        found[index] = (tag, code[start : start + size], at)
        at = start + size
        index += 2 if tag in (LONG, DOUBLE) else 1
    return found, at
