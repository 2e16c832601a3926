"""From data sets to the batches of one rank, on its device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opencood.batch import to_device
from opencood.training import order
from opencood.training.distributed import World
from opencood.training.settings import Settings
from opencood.training.step import has_objects


class Feed:
    """The training and validation batches of this rank, each a function of (settings, epoch).

    Args:
        train_dataset, val_dataset: see ``Trainer``.
        settings: batch size, seed, workers and limits.
        world: how many ranks share the batches.
    """

    def __init__(self, train_dataset: Any, val_dataset: Any | None, settings: Settings, world: World):
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.settings, self.world = settings, world
        self.batches_per_epoch = len(self._training_batches(0))

    def training(self, epoch: int, first: int = 0) -> Iterable[Any]:
        """Training batches from number ``first`` on."""
        self.train_dataset.reinitialize(epoch)
        return self._load(self.train_dataset, self._training_batches(epoch)[first:])

    def validation(self, epoch: int) -> Iterable[Any]:
        """This rank's share of the validation batches; none without a validation set."""
        if self.val_dataset is None:
            return []
        return self._load(self.val_dataset, self._validation_batches(len(self.val_dataset), epoch))

    def trainable(self, batch: Mapping[str, Any] | None, epoch: int) -> Mapping[str, Any] | None:
        """The ``ego`` entry on the device; None when the batch is missing or has no object."""
        if batch is None or not has_objects(batch["ego"]):
            return None
        return self.on_device(batch, epoch)

    def on_device(self, batch: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        """The ``ego`` entry on the device, told the epoch."""
        return {**to_device(batch["ego"], self.world.device), "epoch": epoch}

    def key(self) -> dict[str, int]:
        """What the order of the data and all random draws follow from, together with epoch and step."""
        return {
            "seed": self.settings.seed,
            "samples": len(self.train_dataset),
            "batch_size": self.settings.batch_size,
            "processes": self.world.size,
        }

    def _training_batches(self, epoch: int) -> order.Batches:
        settings, world = self.settings, self.world
        samples = order.shuffled(len(self.train_dataset), settings.seed, epoch)
        batches = order.training_batches(samples, settings.batch_size, world.rank, world.size)
        return batches[: settings.max_train_batches]

    def _validation_batches(self, length: int, epoch: int) -> order.Batches:
        settings, samples = self.settings, list(range(length))
        if settings.shuffle_validation:
            samples = order.shuffled(length, settings.seed + 1, epoch)
        drop_last = settings.shuffle_validation and length >= settings.batch_size
        batches = order.validation_batches(samples, settings.batch_size, drop_last)[: settings.max_val_batches]
        return batches[self.world.rank :: self.world.size]

    def _load(self, dataset: Any, batches: order.Batches) -> Iterable[Any]:
        pinned = self.world.device.type == "cuda"
        return order.load(dataset, batches, dataset.collate_batch_train, self.settings.workers, pinned)
