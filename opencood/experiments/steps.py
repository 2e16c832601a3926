"""Long recipes as named steps: each is timed, recorded when it is done, and not repeated unless its inputs changed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from opencood.evaluation.files import write_text

log = logging.getLogger(__name__)

Facts = dict[str, Any]


@dataclass(frozen=True)
class StepRecord:
    """What is kept of a finished step: the digest of its inputs, its seconds, and the facts it returned."""

    inputs: str
    seconds: float
    facts: Facts


class Journal:
    """The finished steps of one output folder, in ``steps.json``.

    A step runs again when its inputs or those of an earlier step changed, so nothing stale is ever mixed in.
    """

    def __init__(self, folder: Path, total: int, fresh: bool = False) -> None:
        self.path = folder / "steps.json"
        self._total = total
        self._number = 0
        self._chain = ""
        self._known = {} if fresh else _read(self.path)
        self.records: dict[str, StepRecord] = {}

    def run(self, name: str, inputs: Any, work: Callable[[], Facts | None]) -> Facts:
        """Do a step, or take its recorded facts when it was done with the same inputs."""
        self._number += 1
        self._chain = hashlib.sha256(
            f"{self._chain}{name}{json.dumps(inputs, sort_keys=True, default=str)}".encode()
        ).hexdigest()
        known = self._known.get(name)
        if known is not None and known.inputs == self._chain:
            log.info("[%d/%d] %s: done before (%.0f s)", self._number, self._total, name, known.seconds)
            self.records[name] = known
            return known.facts
        log.info("[%d/%d] %s ...", self._number, self._total, name)
        started = perf_counter()
        facts = work() or {}
        self.records[name] = StepRecord(self._chain, perf_counter() - started, facts)
        self._save()
        log.info("[%d/%d] %s: %.0f s", self._number, self._total, name, self.records[name].seconds)
        return facts

    @property
    def seconds(self) -> float:
        """Total time of all steps, whenever they ran."""
        return sum(record.seconds for record in self.records.values())

    def _save(self) -> None:
        write_text(
            self.path, json.dumps({name: vars(record) for name, record in self.records.items()}, indent=2) + "\n"
        )


def _read(path: Path) -> dict[str, StepRecord]:
    try:
        return {name: StepRecord(**record) for name, record in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # a missing or foreign journal only means that everything is done again
