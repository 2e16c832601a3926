"""Run what is missing of a recipe, and nothing twice unless an input changed."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from opencood.errors import OpencoodError, StorageError
from opencood.experiments.protocol import code_version, file_digest
from opencood.experiments.recipe import Recipe
from opencood.experiments.recipe_estimate import estimate_lines
from opencood.experiments.recipe_pictures import draw_pictures
from opencood.experiments.recipe_records import Record, Records
from opencood.experiments.recipe_stages import Task, tasks_of
from opencood.experiments.recipe_table import Table, make_table

log = logging.getLogger(__name__)

LOOK_AGAIN = 2.0  # seconds, while all that is left is in other hands


@dataclass(frozen=True)
class Verdict:
    """Whether a task is done; if not, why, and which earlier task it waits for, if any."""

    done: bool
    reason: str

    def __str__(self) -> str:
        return ("done" if self.done else "to do") + f": {self.reason}"


class Runner:
    """Runs the tasks of a recipe and remembers what is done; other processes may run the same recipe meanwhile."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tasks = tasks_of(recipe)
        self._book = Records(recipe.out)
        self._told: set[str] = set()

    @property
    def records(self) -> dict[str, Record]:
        """The records of finished tasks by name."""
        return self._book.known

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
        left = dict(enumerate(self.tasks, 1))
        while left:
            self._book.refresh()
            before, open_names = len(left), {task.name for task in left.values()}
            for number, task in list(left.items()):
                waits = any(need.name in open_names for need in self._earlier(task))
                if not waits and self._attend(task, f"[{number}/{len(self.tasks)}] {task.name}"):
                    del left[number]
                    open_names.remove(task.name)
            if len(left) == before:
                time.sleep(LOOK_AGAIN)
        table = make_table(self.recipe, {name: record.facts for name, record in self.records.items()})
        table.save(self.recipe.out)
        draw_pictures(self.recipe, table)
        return table

    def _attend(self, task: Task, place: str) -> bool:
        """Run a task unless it is done; returns whether it is done now: false while another process is at it."""
        verdict = self._verdict(task)
        if verdict.done:
            log.info("%s: %s", place, verdict)
            return True
        with self._book.claim(task.name) as ours:
            if not ours:
                self._tell_once(f"{place}: another process is at it")
                return False
            verdict = self._verdict(task)
            if verdict.done:
                log.info("%s: %s", place, verdict)
                return True
            log.info("%s: %s; log %s", place, verdict, task.log)
            self._run_task(task)
            log.info("%s: %.0f s", place, self.records[task.name].seconds)
        if task.stage.kind == "simulate":  # now there is something to measure with
            self._log_estimate()
        return True

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            log.info("%s", line)
        self._told.add(line)

    def _log_estimate(self) -> None:
        if self.recipe.shrink:  # a trial takes less time than its estimate
            return
        for line in self.estimate():
            log.info("%s", line)

    def _run_task(self, task: Task) -> None:
        started, spent_before = perf_counter(), _cpu_seconds()
        self._book.forget(task.name)
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
        self._book.keep(task.name, Record(inputs, outputs, spent, moment, code_version(), facts, cpu))

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


def _cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    return sum(os.times()[:4])


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
