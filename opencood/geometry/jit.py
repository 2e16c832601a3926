"""The one decorator for compiled kernels, so that they all behave alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile with numba: cached on disk, without the interpreter lock, IEEE arithmetic as written (no fast-math).

    Where no folder for the cache is writable (a read-only installation) the function is compiled at first use instead.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "cannot cache function": no locator found a writable folder
        return numba.njit(**options)(function)
