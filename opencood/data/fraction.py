"""A share of the frames of a training set, to train with few labels (spec coopre.md 12)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from opencood.data.combined import CombinedDataset
from opencood.data.dataset import Batch, CooperativeDataset
from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.readers.base import Reader
from opencood.data.samples.base import Sample
from opencood.errors import ConfigError, DataError

SEED = 42  # of the published choice, whatever the seed of the run
UNITS = ("frame", "scenario")


def chosen_frames(dataset: CooperativeDataset | CombinedDataset, fraction: float, seed: int, unit: str) -> list[int]:
    """Indices of the frames that may be used, in the published order of the draw.

    Args:
        fraction: of N frames, int(N * fraction) are drawn without replacement; of scenarios likewise, with all frames.
        seed: of NumPy's legacy generator, from which nothing else is drawn.
        unit: ``frame``, so that neighbours of a frame may be missing, or ``scenario``.

    Raises:
        ConfigError: the share is not above 0 and at most 1, leaves nothing, or the unit is unknown.
        DataError: a scenario cannot be told, because the metadata of a frame are broken.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"train_params.label_fraction: expected a share above 0 and at most 1, found {fraction}.")
    if unit not in UNITS:
        raise ConfigError(f"train_params.label_unit: '{unit}' is none of {', '.join(UNITS)}.")
    generator = np.random.RandomState(seed)
    if unit == "frame":
        return _drawn(len(dataset), fraction, generator, unit)
    of_frame = [dataset.frame(index).scenario for index in range(len(dataset))]
    scenarios = sorted(set(of_frame))
    chosen = {scenarios[row] for row in _drawn(len(scenarios), fraction, generator, unit)}
    return [index for index, scenario in enumerate(of_frame) if scenario in chosen]


def _drawn(count: int, fraction: float, generator: np.random.RandomState, unit: str) -> list[int]:
    kept = int(count * fraction)
    if not kept:
        raise ConfigError(f"train_params.label_fraction: {fraction} of {count} {unit}(s) is none; raise it.")
    return generator.choice(count, kept, replace=False).tolist()


class ChosenFrames(Dataset):
    """Some frames of a data set; index i is the i-th chosen one, a sample is that of the whole data set.

    Args:
        whole: the data set.
        chosen: indices of its frames.
    """

    def __init__(self, whole: CooperativeDataset | CombinedDataset, chosen: Sequence[int]) -> None:
        self.whole = whole
        self.chosen = list(chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample | None:
        """Return a sample (see ``CooperativeDataset``), or None where this epoch's egos see fewer frames."""
        number = self.chosen[index]
        return self.whole[number] if number < len(self.whole) else None

    @property
    def hypes(self) -> Any:
        """The configuration."""
        return self.whole.hypes

    @property
    def epoch(self) -> int:
        """The epoch."""
        return self.whole.epoch

    @property
    def supervise_single(self) -> bool:
        """Whether training adds the loss of every agent alone."""
        return self.whole.supervise_single

    @property
    def post_processor(self) -> Any:
        """Anchors, targets, decoding."""
        return self.whole.post_processor

    @property
    def anchor_range(self) -> tuple[float, ...]:
        """``[x0, y0, z0, x1, y1, z1]`` of the anchors, metres."""
        return self.whole.anchor_range

    @property
    def frames_left_out(self) -> list[int]:
        """Indices, in the whole data set, of the broken frames that were left out so far."""
        return self.whole.frames_left_out

    def frame(self, index: int, draws: Draws | None = None) -> Frame:
        """Return the frame a sample is made of."""
        return self.whole.frame(self.chosen[index], draws)

    def wrap_readers(self, wrap: Callable[[Reader], Any]) -> None:
        """Put another reader in front of the reader."""
        self.whole.wrap_readers(wrap)

    def reinitialize(self, epoch: int | None = None) -> None:
        """Start an epoch (None: the next one); the choice stays."""
        self.whole.reinitialize(epoch)

    def collate_batch_train(self, samples: Sequence[Sample | None]) -> Batch | None:
        """Return the batch of several samples."""
        return self.whole.collate_batch_train(samples)

    def lines(self) -> list[str]:
        """One line per chosen frame in the order of the data set: its index and its name."""
        return [f"{index} {self._name(index)}" for index in sorted(self.chosen)]

    def _name(self, index: int) -> str:
        try:
            return self.whole.frame(index).label
        except DataError as error:
            return f"unreadable: {error}"
