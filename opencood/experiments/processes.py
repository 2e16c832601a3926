"""Worker processes of long jobs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def fresh_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes (a forked copy would inherit the threads of whatever ran before); stops early on an error."""
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
