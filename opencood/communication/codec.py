"""Bytes of a message: a plain, versioned, bit-exact tensor format.

Layout, all integers little-endian::

    magic "OCM", version u8 | kind: length u16, utf-8 | number of tensors u16
    per tensor: name length u16, utf-8 | dtype u8 | dimensions u8, each u32 | payload length u64, payload (row-major)

The price of a message is ``len(encode(message))``: no estimate, nothing left out.
"""

from __future__ import annotations

import struct
import sys

import torch
from torch import Tensor

from opencood.communication.message import Message
from opencood.errors import DataError

MAGIC = b"OCM"
VERSION = 1

# The position is the code on the wire: append, never reorder.
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
)
DTYPE_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


def encode(message: Message) -> bytes:
    """The bytes of a message; what it marks as staying at home is not among them.

    Raises:
        ValueError: a tensor's dtype has no code in this format.
    """
    sent = message.sent
    parts = [MAGIC, struct.pack("<B", VERSION), _text(message.kind), struct.pack("<H", len(sent))]
    for name, tensor in sent.items():
        parts += [_text(name), *_tensor(name, tensor)]
    return b"".join(parts)


def decode(data: bytes) -> Message:
    """The message whose bytes these are, with tensors on the CPU; ``decode(encode(m))`` is what ``m`` sends to the bit.

    Raises:
        DataError: the bytes are truncated, damaged, or of another format version.
    """
    reader = _Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise DataError("message: the bytes do not start with the message marker; they are damaged or no message.")
    (version,) = reader.numbers("<B")
    if version != VERSION:
        raise DataError(f"message: format version {version}, this code reads version {VERSION}; update one side.")
    kind = reader.text()
    (count,) = reader.numbers("<H")
    tensors = dict(_read_tensor(reader) for _ in range(count))
    if reader.left:
        raise DataError(f"message: {reader.left} bytes left over after the last tensor; the message is damaged.")
    return Message(tensors, kind)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<H", len(raw)) + raw


def _tensor(name: str, tensor: Tensor) -> list[bytes]:
    if tensor.dtype not in DTYPE_CODES:
        raise ValueError(f"tensor '{name}' has dtype {tensor.dtype}, which the message format does not carry")
    plain = tensor.detach().cpu().contiguous()
    payload = plain.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        payload = payload.reshape(-1, plain.element_size())[:, ::-1]
    shape = struct.pack(f"<{plain.dim()}I", *plain.shape)
    return [struct.pack("<BB", DTYPE_CODES[plain.dtype], plain.dim()), shape, struct.pack("<Q", payload.size)] + [
        payload.tobytes()
    ]


def _read_tensor(reader: _Reader) -> tuple[str, Tensor]:
    name = reader.text()
    code, dimensions = reader.numbers("<BB")
    if code >= len(DTYPES):
        raise DataError(f"message: tensor '{name}' has the unknown dtype code {code}; the message is damaged.")
    shape = reader.numbers(f"<{dimensions}I")
    (length,) = reader.numbers("<Q")
    raw = torch.frombuffer(bytearray(reader.take(length)), dtype=torch.uint8) if length else torch.empty(0).byte()
    dtype = DTYPES[code]
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if expected != length:
        raise DataError(f"message: tensor '{name}' needs {expected} bytes for shape {shape} but has {length}.")
    if sys.byteorder == "big":
        raw = raw.reshape(-1, dtype.itemsize).flip(1).reshape(-1)
    return name, raw.view(dtype).reshape(shape)


class _Reader:
    """Walks over the bytes and notices their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise DataError(f"message: {count} bytes expected at byte {self._at}, {self.left} left; it is truncated.")
        self._at += count
        return self._data[self._at - count : self._at]

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def text(self) -> str:
        (length,) = self.numbers("<H")
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"message: a name is not text ({error.reason}); the message is damaged.") from error
