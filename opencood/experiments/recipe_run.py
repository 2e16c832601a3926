"""Run what is missing of a recipe, and nothing twice unless an input changed."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from opencood.errors import OpencoodError, StorageError
from opencood.evaluation.files import write_text
from opencood.experiments.protocol import code_version, file_digest
from opencood.experiments.recipe import Recipe
from opencood.experiments.recipe_estimate import estimate_lines
from opencood.experiments.recipe_stages import Inputs, Task, tasks_of
from opencood.experiments.recipe_table import Table, make_table

log = logging.getLogger(__name__)

STATE = "recipe_state.json"


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


@dataclass(frozen=True)
class Verdict:
    """Whether a task is done; if not, why, and which earlier task it waits for, if any."""

    done: bool
    reason: str

    def __str__(self) -> str:
        return ("done" if self.done else "to do") + f": {self.reason}"


class Runner:
    """Runs the tasks of a recipe and remembers what is done in ``<out>/recipe_state.json``."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tasks = tasks_of(recipe)
        self.records = _read(recipe.out / STATE)

    def plan(self) -> dict[str, Verdict]:
        """For every task by name: done, or why it runs. Nothing is written."""
        verdicts: dict[str, Verdict] = {}
        for task in self.tasks:
            waits = [need.name for need in self._earlier(task) if not verdicts[need.name].done]
            verdicts[task.name] = Verdict(False, f"after {' and '.join(waits)}") if waits else self._verdict(task)
        return verdicts

    def describe(self) -> list[str]:
        """The plan, task by task, with commands that do the same by hand, and the estimate of what is to do."""
        lines = []
        for (name, verdict), task in zip(self.plan().items(), self.tasks, strict=True):
            lines += [f"{name} ({task.stage.kind}): {verdict}", f"    {task.command()}"]
        return lines + self.estimate()

    def estimate(self) -> list[str]:
        """How much there is to do, and how long it takes as far as that can be told."""
        verdicts = self.plan()
        open_tasks = [task for task in self.tasks if not verdicts[task.name].done]
        return estimate_lines(open_tasks, {name: record.seconds for name, record in self.records.items()})

    def run(self) -> Table:
        """Run all tasks that are not done, then make the table.

        Raises:
            OpencoodError: a task failed; the message names it and its log. What was done before stays done.
        """
        self._log_estimate()
        for number, task in enumerate(self.tasks, 1):
            verdict = self._verdict(task)
            place = f"[{number}/{len(self.tasks)}] {task.name}"
            if verdict.done:
                log.info("%s: %s", place, verdict)
                continue
            log.info("%s: %s; log %s", place, verdict, task.log)
            self._run_task(task)
            log.info("%s: %.0f s", place, self.records[task.name].seconds)
            if task.stage.kind == "simulate":  # now there is something to measure with
                self._log_estimate()
        table = make_table(self.recipe, {name: record.facts for name, record in self.records.items()})
        table.save(self.recipe.out)
        return table

    def _log_estimate(self) -> None:
        if self.recipe.shrink:  # a trial takes less time than its estimate
            return
        for line in self.estimate():
            log.info("%s", line)

    def _run_task(self, task: Task) -> None:
        started, spent_before = perf_counter(), _cpu_seconds()
        self.records.pop(task.name, None)
        self._save()  # from here on until it is finished, what it made before does not count
        with _logging_to(task.log):
            try:
                inputs = task.inputs()
                facts = task.work(inputs)
                outputs = {str(file): file_digest(file) for file in task.outputs()}
            except OpencoodError as error:
                raise type(error)(f"stage {task.name}: {error} (log: {task.log})") from error
            except Exception:
                log.error("%s", traceback.format_exc())
                raise
        spent = perf_counter() - started
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        cpu = _cpu_seconds() - spent_before
        self.records[task.name] = Record(inputs, outputs, spent, moment, code_version(), facts, cpu)
        self._save()

    def _verdict(self, task: Task) -> Verdict:
        record = self.records.get(task.name)
        if record is None:
            begun = task.folder.is_dir() and any(task.folder.iterdir())
            return Verdict(False, "was interrupted, goes on" if begun else "never ran")
        try:
            inputs = task.inputs()
        except OpencoodError as error:
            return Verdict(False, f"its inputs are gone ({error})")
        changed = sorted(name for name in {*inputs, *record.inputs} if inputs.get(name) != record.inputs.get(name))
        if changed:
            return Verdict(False, f"changed since {record.finished}: {', '.join(changed)}")
        gone = [file for file, content in record.outputs.items() if _digest_or_none(file) != content]
        if gone or not record.outputs:
            return Verdict(False, f"its outputs are missing or changed: {', '.join(gone)}")
        return Verdict(True, f"{record.finished}, {record.seconds:.0f} s")

    def _earlier(self, task: Task) -> list[Task]:
        """The tasks of this recipe whose outputs it takes."""
        names = [*task.stage.needs, *self.recipe.data_of(task.stage)]
        stages = [stage for name in names if (stage := self.recipe.stage(name)) and stage is not task.stage]
        return [Task(self.recipe, stage, task.seed if stage.per_seed else None) for stage in stages]

    def _save(self) -> None:
        content = {name: asdict(record) for name, record in self.records.items()}
        write_text(self.recipe.out / STATE, json.dumps(content, indent=1) + "\n")


def _cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    return sum(os.times()[:4])


def _read(path: Path) -> dict[str, Record]:
    """The records of earlier calls; a file that is not ours means that nothing is known."""
    if not path.is_file():
        return {}
    try:
        return {name: Record(**record) for name, record in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"{path}: is no record of a recipe ({error}). Remove it to run everything again.") from error


def _digest_or_none(file: str) -> str | None:
    return file_digest(Path(file)) if Path(file).is_file() else None


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    """Also write everything that is logged to a file; an earlier attempt's log is kept above it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror}).") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
