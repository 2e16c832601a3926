"""The training loop: epochs, validation, checkpoints, and a resume that changes nothing.

Source: spec tools.md section 2 "Loop (train)", e2e.md "Loop order of the reference".
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from opencood.errors import ConfigError
from opencood.training import checkpoints, order
from opencood.training.backends import Backends, Targets
from opencood.training.distributed import World
from opencood.training.feed import Feed
from opencood.training.journal import Journal
from opencood.training.optimizers import set_rates
from opencood.training.schedules import Schedule, closed_form_epoch
from opencood.training.settings import Settings
from opencood.training.step import Criterion, Diagnose, Stepper

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is: ``step`` batches of 0-based ``epoch`` are done."""

    epoch: int = 0
    step: int = 0
    best_loss: float | None = None
    first_epoch: int = 0  # what the schedule counts as the start, see schedules.closed_form_epoch


class Trainer:
    """Trains a detector and keeps its run folder.

    Args:
        model: maps the ``ego`` entry of a batch to the published output keys; already on ``world.device``.
        loss: ``loss(outputs, targets, suffix) -> (loss, terms)``.
        train_dataset, val_dataset: data sets with ``collate_batch_train``, ``reinitialize(epoch)`` and
            ``supervise_single``; a sample is a function of (seed, epoch, index). ``val_dataset`` None trains without
            validation.
        settings: see ``Settings``.
        run_dir: an existing folder.
        optimizer, schedule: see ``optimizers.build_optimizer`` and ``schedules.build_schedule``.
        world: the processes of this run; a single one by default.
        diagnose: names the module where a non-finite value first appears.
        teacher: see ``Stepper``.
        targets: the backends of the detector, where it has several: validation goes through all of them.

    Raises:
        ConfigError: the training set is smaller than one batch, or there are no backends to balance.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        train_dataset: Any,
        val_dataset: Any | None,
        settings: Settings,
        run_dir: Path,
        *,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        world: World | None = None,
        diagnose: Diagnose | None = None,
        teacher: nn.Module | None = None,
        targets: Targets | None = None,
    ):
        self.model, self.loss, self.settings, self.run_dir = model, loss, settings, Path(run_dir)
        self.optimizer, self.schedule = optimizer, schedule
        self.world = world or World()
        self.backends = Backends(targets, settings.data_balance)
        self.feed = Feed(train_dataset, val_dataset, settings, self.world)
        criterion = Criterion(loss, bool(getattr(train_dataset, "supervise_single", False)), settings.single_weight)
        self.stepper = Stepper(
            model, optimizer, criterion, self.world, settings.precision, settings.grad_clip, diagnose, teacher
        )
        self.journal = Journal(self.run_dir, self.world.is_main, settings.epochs, settings.print_every)
        self.progress = Progress()
        self._saved_at = time.monotonic()
        if self.feed.batches_per_epoch == 0:
            together = settings.batch_size * self.world.size
            raise ConfigError(
                f"train_params.batch_size: the training set has {len(train_dataset)} samples, a step needs {together} "
                f"({settings.batch_size} on each of {self.world.size} process(es)). Lower it, or check root_dir."
            )

    # --- the run ------------------------------------------------------------------------------------------------------

    def fit(self) -> Progress:
        """Train to the last epoch and return where the run ended."""
        self.world.share_model(self.model)
        self.journal.open(self.progress.epoch, self.progress.step, self.feed.batches_per_epoch)
        try:
            if self.progress.epoch and self.progress.best_loss is None:
                self._measure_start()
            for epoch in range(self.progress.epoch, self.settings.epochs):
                self._train_epoch(epoch)
                self._finish_epoch(epoch)
        finally:
            self.journal.close()
        return self.progress

    def _train_epoch(self, epoch: int) -> None:
        samples = self.settings.batch_size * self.world.size
        first = self.progress.step if epoch == self.progress.epoch else 0
        rates = self.rates(epoch, first)
        set_rates(self.optimizer, rates)
        self._enter_training_mode()
        self.journal.open_epoch(epoch, self.feed.batches_per_epoch, first, samples, rates)
        skipped = 0
        for index, batch in enumerate(self.feed.training(epoch, first), start=first):
            order.seed_draws(self.settings.seed, epoch, index, self.world.rank)
            if self.settings.schedule_per_step:
                rates = self.rates(epoch, index)
                set_rates(self.optimizer, rates)
            report = self.stepper(self.feed.trainable(batch, epoch))
            if report is None:
                skipped += 1
                self.journal.skipped(samples)
            else:
                self.journal.step(epoch, index, self.feed.batches_per_epoch, samples, report, rates[0])
            self._advance(epoch=epoch, step=index + 1)
            self._save_last_if_due(index)
        self.journal.close_epoch(epoch, skipped_batches=skipped)

    def _finish_epoch(self, epoch: int) -> None:
        final = epoch == self.settings.epochs - 1
        if self.world.is_main and (final or epoch % self.settings.save_every == 0):
            checkpoints.save_weights(self.model, checkpoints.epoch_file(self.run_dir, epoch))
        if final or epoch % self.settings.validate_every == 0:
            self._validate_and_keep_best(epoch)
        self._advance(epoch=epoch + 1, step=0)
        self._save_last()

    def rates(self, epoch: int, step: int = 0) -> list[float]:
        """Learning rate of each parameter group during an epoch, or at a step of it."""
        if self.settings.schedule_per_step:
            at = epoch + step / self.feed.batches_per_epoch
        else:
            at = closed_form_epoch(epoch, self.progress.first_epoch, self.settings.schedule_before_epoch)
        return [self.schedule(group["initial_lr"], at) for group in self.optimizer.param_groups]

    # --- validation ---------------------------------------------------------------------------------------------------

    def validate(self, epoch: int) -> dict[str, float]:
        """Mean of the main loss over the validation batches of all ranks, in eval mode, by backend; empty without any.

        A detector that has one way only has one nameless loss.
        """
        totals: dict[tuple[str, str], float] = {}
        self.model.eval()
        with torch.no_grad():
            for batch in self.feed.validation(epoch):
                if batch is None:
                    continue
                ego = self.feed.on_device(batch, epoch)
                for name in self.backends.in_turn():
                    loss, _ = self.loss(self.stepper.predict(ego), self.stepper.criterion.targets(ego))
                    totals[name, "sum"] = totals.get((name, "sum"), 0.0) + float(loss)
                    totals[name, "count"] = totals.get((name, "count"), 0.0) + 1
        summed = self.world.sum_by_key(totals)
        return {name: total / summed[name, "count"] for (name, kind), total in summed.items() if kind == "sum"}

    def _validate_and_keep_best(self, epoch: int) -> None:
        losses = self.validate(epoch)
        if not losses:
            return
        loss = fmean(losses.values())
        best = self.progress.best_loss is None or loss < self.progress.best_loss
        if best:
            self._advance(best_loss=loss)
            if self.world.is_main:
                checkpoints.save_best(self.model, self.run_dir, epoch)
        weights = self.backends.rebalance(losses)
        self.journal.validated(epoch, loss, best, losses if len(losses) > 1 else {}, weights)

    def _measure_start(self) -> None:
        """A folder with only .pth files: its best loss is not written anywhere, and must not be forgotten."""
        losses = self.validate(self.progress.epoch - 1)
        if losses:
            loss = fmean(losses.values())
            self._advance(best_loss=loss)
            self.journal.say(f"The loaded weights have the validation loss {loss:f}")

    # --- resuming -----------------------------------------------------------------------------------------------------

    def start_after(self, epochs_done: int) -> None:
        """Continue after ``epochs_done`` epochs with the weights that the model holds, and a fresh optimiser."""
        first = epochs_done if self.settings.published_resume else 0
        self.progress = Progress(epoch=epochs_done, first_epoch=first)

    def resume(self) -> bool:
        """Continue from ``last.ckpt`` at the next batch; False when there is none.

        The rest of the run is the one that would have happened without the interruption. When batch size, number of
        processes, seed or data changed, the position inside the epoch means nothing any more and the epoch begins anew.

        Raises:
            CheckpointError: the file is damaged or belongs to another model.
        """
        state = checkpoints.read_last(self.run_dir)
        if state is None:
            return False
        path = self.run_dir / checkpoints.LAST
        checkpoints.load_exactly(self.model, state["model"], path)
        checkpoints.load_optimizer(self.optimizer, state["optimizer"], path)
        self.stepper.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.backends.load(state.get("backends", {}))
        if state["order"] != self.feed.key() and self.progress.step:
            log.warning("%s: the order of the data changed since; epoch %d begins anew.", path, self.progress.epoch + 1)
            self._advance(step=0)
        return True

    def _save_last_if_due(self, index: int) -> None:
        settings, minutes = self.settings, (time.monotonic() - self._saved_at) / 60
        by_steps = settings.last_every_steps is not None and (index + 1) % settings.last_every_steps == 0
        by_time = settings.last_every_minutes is not None and minutes >= settings.last_every_minutes
        if by_steps or by_time:
            self._save_last()

    def _save_last(self) -> None:
        if self.world.is_main:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "progress": asdict(self.progress),
                "order": self.feed.key(),
                "backends": self.backends.state(),
            }
            checkpoints.save_last(self.run_dir, state)
        self._saved_at = time.monotonic()

    def _advance(self, **changes: Any) -> None:
        self.progress = Progress(**{**asdict(self.progress), **changes})

    def _enter_training_mode(self) -> None:
        self.model.train()
        freeze = getattr(self.model, "model_train_init", None)
        if freeze is not None:
            freeze()
