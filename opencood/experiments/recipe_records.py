"""What is done of a recipe, and who is at what: several processes may run one recipe together.

``<out>/recipe_state.json`` holds a record of every finished task. A process claims a task before it runs it; a claim
ends with its process, however that ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opencood.errors import StorageError
from opencood.evaluation.files import write_text

STATE = "recipe_state.json"
CLAIMS = ".claims"  # folder of the locks
Inputs = dict[str, str]


@dataclass(frozen=True)
class Record:
    """What is kept of a finished task: digests of its inputs and outputs, seconds, moment, code, facts.

    ``cpu_seconds`` are those of all cores together, which say more than seconds where the machine is shared.
    """

    inputs: Inputs
    outputs: dict[str, str]
    seconds: float
    finished: str
    code: str
    facts: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0


class Records:
    """The records of a recipe's folder, by name of task.

    Raises:
        StorageError: the file is there, and is no record of a recipe.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.known = _read(out / STATE)

    def refresh(self) -> None:
        """Learn what other processes finished meanwhile."""
        self.known = _read(self.out / STATE)

    def forget(self, name: str) -> None:
        """A task is about to run: from here on until it is finished, what it made before does not count."""
        with self._changing():
            self.known.pop(name, None)

    def keep(self, name: str, record: Record) -> None:
        """A task is finished."""
        with self._changing():
            self.known[name] = record

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the task is ours for the length of the block: false while another process is at it."""
        lock = FileLock(self._claims() / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            self.refresh()
            yield True
        finally:
            lock.release()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the records as they are on the disk now."""
        with FileLock(self._claims() / f"{STATE}.lock"):
            self.refresh()
            yield
            content = {name: asdict(record) for name, record in self.known.items()}
            write_text(self.out / STATE, json.dumps(content, indent=1) + "\n")

    def _claims(self) -> Path:
        folder = self.out / CLAIMS
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made ({error.strerror}).") from error
        return folder


def _read(path: Path) -> dict[str, Record]:
    """The records of earlier calls; a file that is not ours means that nothing is known."""
    if not path.is_file():
        return {}
    try:
        return {name: Record(**record) for name, record in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"{path}: is no record of a recipe ({error}). Remove it to run everything again.") from error
