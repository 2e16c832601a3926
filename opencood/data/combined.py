"""Several data sets as one: their frames one after the other, in one kind of sample (spec coopre.md, section 12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset

from opencood.communication import Channel
from opencood.data.dataset import Batch, CooperativeDataset
from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.readers.base import Reader
from opencood.data.samples.base import Sample
from opencood.errors import DataError


class CombinedDataset(Dataset):
    """Data sets one after the other; index i belongs to the first one whose frames reach beyond it.

    Every sample is that of its own data set, with its own conventions, ranges and poses; only ``sample_idx`` counts
    over all. Batches may mix the data sets, because they share the sample class, the grid and the anchors.

    Args:
        hypes: the whole configuration.
        parts: the data sets, at least one.
    """

    def __init__(self, hypes: Mapping[str, Any], parts: Sequence[CooperativeDataset]) -> None:
        self.hypes = hypes
        self.parts = list(parts)

    @property
    def epoch(self) -> int:
        """The epoch of all parts."""
        return self.parts[0].epoch

    @property
    def supervise_single(self) -> bool:
        """Whether training adds the loss of every agent alone."""
        return self.parts[0].supervise_single

    @property
    def post_processors(self) -> dict[str, Any]:
        """Those of modalities that have their own, by name."""
        return self.parts[0].post_processors

    @property
    def post_processor(self) -> Any:
        """Anchors, targets, decoding."""
        return self.parts[0].post_processor

    @property
    def anchor_range(self) -> tuple[float, ...]:
        """``[x0, y0, z0, x1, y1, z1]`` of the anchors, metres; training labels lie inside."""
        return self.parts[0].anchor_range

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Sample | None:
        """Return a sample (see ``CooperativeDataset``)."""
        index = range(len(self))[index]
        part, local = self.locate(index)
        sample = part[local]
        for entry in (sample or {}).values():
            entry["sample_idx"] = index
        return sample

    def locate(self, index: int) -> tuple[CooperativeDataset, int]:
        """Return the data set of a frame and its index there."""
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(f"frame {index + len(self)} of {len(self)}")

    @property
    def frames_left_out(self) -> list[int]:
        """Indices of the broken frames that were left out so far."""
        starts = [0, *accumulate(map(len, self.parts))]
        return [
            start + index for start, part in zip(starts, self.parts, strict=False) for index in part.frames_left_out
        ]

    def frame(self, index: int, draws: Draws | None = None) -> Frame:
        """Return the frame a sample is made of, with its pose noise.

        Raises:
            DataError: its metadata is missing or broken.
        """
        part, local = self.locate(index)
        return part.frame(local, draws)

    def wrap_readers(self, wrap: Callable[[Reader], Any]) -> None:
        """Put another reader in front of that of every part."""
        for part in self.parts:
            part.wrap_readers(wrap)

    def send_points_through(self, channel: Channel, first_frame: int = 0) -> None:
        """Let a channel come between the agents of early fusion of all parts."""
        for part in self.parts:
            part.send_points_through(channel, first_frame)
            first_frame += len(part)

    def reinitialize(self, epoch: int | None = None) -> None:
        """Start an epoch (None: the next one) of all parts."""
        for part in self.parts:
            part.reinitialize(epoch)

    def collate_batch_train(self, samples: Sequence[Sample | None]) -> Batch | None:
        """Return the batch of several samples, whatever parts they come from.

        Raises:
            DataError: their arrays have different shapes.
        """
        try:
            return self.parts[0].collate_batch_train(samples)
        except ValueError as error:
            raise DataError(
                f"root_dir: samples of different data sets do not fit into one batch ({error}); give them the same "
                "voxels, anchors and max_cav, and narrow single ones by 'range' only."
            ) from error

    def collate_batch_test(self, samples: Sequence[Sample | None]) -> Batch | None:
        """Return the batch of one sample (see ``CooperativeDataset``)."""
        return self._of(samples).collate_batch_test(samples)

    def post_process(self, batch: Batch, outputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return detected boxes, scores and ground truth by the conventions of the batch's data set."""
        part, _ = self.locate(int(next(iter(batch.values()))["sample_idx"]))
        return part.post_process(batch, outputs)

    def _of(self, samples: Sequence[Sample | None]) -> CooperativeDataset:
        present = next((sample for sample in samples if sample is not None), None)
        return self.parts[0] if present is None else self.locate(next(iter(present.values()))["sample_idx"])[0]
