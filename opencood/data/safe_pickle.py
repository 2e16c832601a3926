"""Pickle files of data sets, read without running what they say.

A pickle may call any function of any package. Data files need plain Python values and NumPy arrays only, so every
other name in them is refused (spec data.md, section 2.4).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from opencood.data import files
from opencood.data.pickle_opcodes import check_opcodes
from opencood.errors import DataError

# A pickle names NumPy's functions by module, and NumPy 2 has moved them; what NumPy itself would write is the same.
_OLD_CORE, _CORE = "numpy.core.", "numpy._core."


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in encoding {encoding}")
    return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _rebuilder(value: Any) -> Callable[..., Any]:
    """The function that a pickle of the value names."""
    function = value.__reduce__()[0]
    assert callable(function)
    return function


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): bytearray,
    ("_codecs", "encode"): _latin1,  # how old protocols write bytes
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _rebuilder(np.zeros(0)),
    ("numpy._core.multiarray", "scalar"): _rebuilder(np.float64(0)),
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
_DAMAGED = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, MemoryError, OverflowError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


def load_pickle(path: Path, asked: str = "") -> Any:
    """Return the content of a pickle file of plain values and arrays; ``asked`` names the key that led to it.

    Raises:
        DataError: the file is missing or damaged, or it asks for anything else.
    """
    try:
        content = files.read_bytes(path)
        check_opcodes(content)
        return _PlainUnpickler(io.BytesIO(content), f"{asked}{path}").load()
    except OSError as error:
        raise DataError(f"{asked}{path}: cannot be read ({error.strerror or error}); is the path right?") from error
    except _DAMAGED as error:
        raise DataError(f"{asked}{path}: no readable pickle ({error}); truncated or corrupt file.") from error


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, label: str) -> None:
        super().__init__(file)
        self._label = label

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return one of the few harmless names.

        Raises:
            DataError: another one is asked for.
        """
        current = module.replace("__builtin__", "builtins").replace(_OLD_CORE, _CORE)
        found = _ALLOWED.get((current, name))
        if found is None:
            raise DataError(
                f"{self._label}: the pickle asks for {module}.{name}; only plain values and NumPy arrays are read, "
                "because anything else can run code. Save the file again without it."
            )
        return found
