"""A look at a pickle before it is loaded: are its lengths and places possible?

The unpickler allocates what a file asks for. One damaged byte can ask for gigabytes: the place of a remembered value
(``LONG_BINPUT``) is an index into a table that grows up to it. Walking over the instructions without running them costs
little and tells.
"""

from __future__ import annotations

import pickletools

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

_LINE, _TWO_LINES, _COUNT_1, _COUNT_4, _COUNT_8 = -1, -2, -11, -14, -18
_UNKNOWN = -99
_OF_LIBRARY = {
    pickletools.UP_TO_NEWLINE: _LINE,
    pickletools.TAKEN_FROM_ARGUMENT1: _COUNT_1,
    pickletools.TAKEN_FROM_ARGUMENT4: _COUNT_4,
    pickletools.TAKEN_FROM_ARGUMENT4U: _COUNT_4,
    pickletools.TAKEN_FROM_ARGUMENT8U: _COUNT_8,
}
_PUT, _BINPUT, _LONG_BINPUT, _STOP = b"pqr."
_ENDED, _CUT, _IMPOSSIBLE = 0, 1, 2


def _argument_kinds() -> NDArray[np.int64]:
    """What follows each of the 256 instructions: so many bytes, lines, or a count of bytes."""
    kinds = np.full(256, _UNKNOWN, np.int64)
    for opcode in pickletools.opcodes:
        size = 0 if opcode.arg is None else opcode.arg.n
        kinds[ord(opcode.code)] = _OF_LIBRARY.get(size, size)
        if opcode.arg is pickletools.stringnl_noescape_pair:
            kinds[ord(opcode.code)] = _TWO_LINES
    return kinds


_KINDS = _argument_kinds()


def check_opcodes(content: bytes) -> None:
    """Walk over the instructions of a pickle.

    Raises:
        ValueError: an unknown instruction, a length beyond the end, no end, or a place no such file can have.
    """
    status, position = _walk(np.frombuffer(content, np.uint8), _KINDS)
    if status == _CUT:
        raise ValueError(f"it ends inside the instruction at byte {position}")
    if status == _IMPOSSIBLE:
        raise ValueError(f"impossible instruction at byte {position}")


@compiled
def _walk(content: NDArray[np.uint8], kinds: NDArray[np.int64]) -> tuple[int, int]:
    """Status, and the byte where the walk stopped."""
    size, position = len(content), 0
    while position < size:
        start, code = position, content[position]
        kind = kinds[code]
        position += 1
        if kind == _UNKNOWN:
            return _IMPOSSIBLE, start
        if kind in (_LINE, _TWO_LINES):
            place = 0
            for _ in range(-kind):
                while position < size and content[position] != 10:
                    place = min(place * 10 + content[position] - 48, size + 1)
                    position += 1
                position += 1
        else:
            width = kind if kind >= 0 else -kind - 10
            if position + width > size:
                return _CUT, start
            place = 0
            for k in range(width - 1, -1, -1):
                place = min(place * 256 + content[position + k], size + 1)
            position += width
            if kind < 0:
                position += place
        if position > size:
            return _CUT, start
        if code in (_PUT, _BINPUT, _LONG_BINPUT) and place > size:
            return _IMPOSSIBLE, start
        if code == _STOP:
            return _ENDED, start
    return _CUT, size
