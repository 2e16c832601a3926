"""The data set that training and inference read: frames of a reader, disturbed, turned into samples, collated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from opencood.communication import Channel
from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.left_out import LeftOut
from opencood.data.perturb.box_alignment import BoxAlignment
from opencood.data.perturb.localisation import LocalisationError
from opencood.data.perturb.pose import PoseNoise
from opencood.data.perturb.settings import Perturbations
from opencood.data.readers.base import Reader
from opencood.data.samples.base import Sample, SampleMaker
from opencood.data.samples.by_modality import postprocessors_by_modality
from opencood.data.samples.early import Early
from opencood.errors import DataError

log = logging.getLogger(__name__)

Batch = dict[str, dict[str, Any]]
PublishedNoise = PoseNoise | LocalisationError


class CooperativeDataset(Dataset):
    """Samples of one split.

    Every sample depends on (seed, epoch, index) alone, whatever the number of workers, unless ``draws`` are given.

    Args:
        hypes: the configuration.
        reader: gives frames.
        maker: turns frames into samples and samples into batches.
        noise: pose noise of a published setting, which draws before everything else of the frame; or None.
        perturbations: what else disturbs the frames, with generators of its own; or None.
        correction: puts the poses right that all of these disturbed; or None.
        skip_broken: a broken frame becomes None and is counted in ``frames_left_out`` instead of raising.
        seed: of the data set's own generators.
        draws: generators for every draw, in the published order; None = own ones.
    """

    def __init__(
        self,
        hypes: Mapping[str, Any],
        reader: Reader,
        maker: SampleMaker,
        *,
        noise: PublishedNoise | None = None,
        perturbations: Perturbations | None = None,
        correction: BoxAlignment | None = None,
        skip_broken: bool = False,
        seed: int = 0,
        draws: Draws | None = None,
    ) -> None:
        self.hypes = hypes
        self.reader = reader
        self.epoch = 0
        self._maker = maker
        self._noise = noise if maker.uses_noise else None
        self._perturbations = perturbations or Perturbations()
        self._correction = correction if maker.uses_noise else None
        self._left_out = LeftOut(0) if skip_broken else None
        self._seed = seed
        self._given_draws = draws
        if draws is not None and maker.inputs.heterogeneous:
            reader.replan(
                draws, with_modalities=False
            )  # published data sets draw an order first and then throw it away
        self.reinitialize(0)

    @property
    def supervise_single(self) -> bool:
        """Whether training adds the loss of every agent alone."""
        return self._maker.settings.supervise_single

    @property
    def post_processor(self) -> Any:
        """Anchors, targets, decoding."""
        return self._maker.settings.postprocessor

    @cached_property
    def post_processors(self) -> dict[str, Any]:
        """Those of modalities that have their own (STAMP), by name."""
        return postprocessors_by_modality(self.hypes)

    @property
    def anchor_range(self) -> tuple[float, ...]:
        """``[x0, y0, z0, x1, y1, z1]`` of the anchors, metres; training labels lie inside."""
        return self._maker.settings.anchor_range

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Sample | None:
        """Return a sample, or None when no agent takes part or the frame is broken and may be skipped.

        Raises:
            DataError: a file of the frame is missing or broken, or every frame of the split is.
        """
        index = range(len(self))[index]
        draws = self._draws("frame", index)
        try:
            return self._maker.make(self.frame(index, draws), draws)
        except DataError as error:
            if self._left_out is None:
                raise DataError(f"{error} (Frame {index}; 'on_bad_frame: skip' leaves such frames out.)") from error
            self._leave_out(self._left_out, index, error)
            return None

    @property
    def frames_left_out(self) -> list[int]:
        """Indices of the broken frames that were left out so far, by whichever loader process."""
        return self._left_out.indices() if self._left_out is not None else []

    def frame(self, index: int, draws: Draws | None = None) -> Frame:
        """Return the frame a sample is made of, with everything that disturbs it.

        Raises:
            DataError: its metadata is missing or broken.
        """
        frame = self.reader.frame(index)
        draws = draws or self._draws("frame", index)
        if self._noise is not None:
            frame = self._noise.in_turn(frame, draws)
        frame = self._perturbations(frame, draws)
        return frame if self._correction is None else self._correction(frame)

    def wrap_readers(self, wrap: Callable[[Reader], Any]) -> None:
        """Put another reader in front of this one."""
        self.reader = wrap(self.reader)

    def send_points_through(self, channel: Channel, first_frame: int = 0) -> None:
        """Let a channel come between the agents of early fusion, whose points are merged here.

        Raises:
            ValueError: the samples are not those of early fusion.
        """
        if not isinstance(self._maker, Early):
            raise ValueError(f"{type(self._maker).__name__} samples send no points")
        self._maker.channel, self._maker.first_frame = channel, first_frame

    def reinitialize(self, epoch: int | None = None) -> None:
        """Start an epoch (None: the next one): training draws the order and the modalities of the agents anew."""
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self.reader.replan(self._draws("plan"))
        if self._left_out is not None:
            self._left_out = self._left_out.grown(len(self))

    def collate_batch_train(self, samples: Sequence[Sample | None]) -> Batch | None:
        """Return the batch of several samples under key ``ego``, or None when none is left.

        Missing samples (None) are left out.
        """
        return self._collate(samples, train=True)

    def collate_batch_test(self, samples: Sequence[Sample | None]) -> Batch | None:
        """Return the batch of one sample, with one entry per agent in late fusion, or None when it is missing.

        Raises:
            ValueError: there are several samples.
        """
        if len(samples) > 1:
            raise ValueError(f"testing runs with batch size 1, got {len(samples)} samples")
        return self._collate(samples, train=False)

    def post_process(self, batch: Batch, outputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return detected boxes (M, 8, 3) and scores (M,), or None and None, and ground truth (G, 8, 3); ego frame."""
        boxes, scores = self.post_processor.post_process(batch, outputs)
        if self._maker.settings.conventions.common_ids:
            return boxes, scores, self.post_processor.generate_gt_bbx(batch)
        return boxes, scores, self.post_processor.generate_gt_bbx_by_iou(batch)

    def _leave_out(self, left_out: LeftOut, index: int, error: DataError) -> None:
        if left_out.add(index, self.epoch):
            log.warning("Frame %d is left out (on_bad_frame: skip): %s", index, error)
        if left_out.all_of(len(self), self.epoch):
            raise DataError(f"on_bad_frame: skip left out every frame of the split ({len(self)}); the last: {error}")

    def _collate(self, samples: Sequence[Sample | None], train: bool) -> Batch | None:
        present = [sample for sample in samples if sample is not None]
        if not present:
            return None
        first = next(iter(present[0].values()))
        return self._maker.collate(present, train, self._draws("collate", first["sample_idx"]))

    def _draws(self, purpose: str, index: int = 0) -> Draws:
        return self._given_draws or Draws.keyed(self._seed, self.epoch, purpose, index)
