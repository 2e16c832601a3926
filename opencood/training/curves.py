"""TensorBoard curves, written in the calling thread.

tensorboardX's own SummaryWriter hands every value to a thread. On a full disk that thread dies with a trace of its own,
and the training waits for it forever as soon as its queue is full.
"""

from __future__ import annotations

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

FLUSH_SECONDS = 10.0


class Curves:
    """One ``events.out.tfevents.*`` file.

    Args:
        folder: where the file is made.
        purge_step: what earlier files say about this step and later ones is not shown any more.

    Raises:
        OSError: the file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._file = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        if purge_step is not None:
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self._file.flush()

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a point to the curve ``tag``."""
        self._write(step=step, summary=scalar(tag, value))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is still in memory."""
        self._file.close()

    def _write(self, **content: object) -> None:
        self._file.write_event(Event(wall_time=time.time(), **content))
