"""Which clouds of a packed data set become voxels in advance, and what is said where they are not used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.frame import PointSource
from opencood.data.modality import Roster
from opencood.data.perturb.settings import Perturbations
from opencood.data.readers.base import Reader, ReaderSettings
from opencood.data.samples.base import SampleMaker
from opencood.data.samples.sensors import LidarInput
from opencood.errors import DataError

log = logging.getLogger(__name__)

_EVERYBODY = 1_000_000  # agents


def obstacle(maker: SampleMaker, perturbations: Perturbations) -> str:
    """Return why samples cannot use voxels that were made in advance; empty: they can."""
    weather = [name for name, step in perturbations.steps if getattr(step, "changes_clouds", False)]
    return maker.prepared.obstacle or (f"perturb.{weather[0]}, which changes clouds" if weather else "")


def clouds_to_prepare(
    maker: SampleMaker, reader_type: Any, settings: ReaderSettings
) -> Iterator[tuple[LidarInput, PointSource]]:
    """Yield every cloud that samples of a split may ask for, with what it becomes.

    Agents may be of any modality, in any order, in any number and on time.

    Raises:
        DataError: the folder or its metadata is broken.
    """
    for modality, lidars in maker.prepared.lidars.items():
        if lidars:
            roster = settings.roster and _all_of(settings.roster, str(modality))
            reader = reader_type(replace(settings, max_cav=_EVERYBODY, timing=None, roster=roster))
            reader.replan(Draws.keyed(0))
            for index in range(len(reader)):
                for source in _clouds_of(reader, index, settings.skip_broken):
                    yield from ((lidar, source) for lidar in lidars)


def _clouds_of(reader: Reader, index: int, skip_broken: bool) -> list[PointSource]:
    """The clouds of a frame; none where it is broken and may be."""
    try:
        return [agent.lidar for agent in reader.frame(index).agents]
    except DataError:
        if not skip_broken:
            raise
        return []  # whoever asks for the frame is told


def tell_what_is_prepared(maker: SampleMaker, perturbations: Perturbations, root: Path) -> None:
    """Warn when the packed data set around a folder holds voxels that the samples of a configuration do not use.

    Raises:
        DataError: the packed data set is unfinished, damaged or out of date.
    """
    store = files.store_around(root) if maker.prepared.wanted else None
    made: Sequence[dict[str, str]] = store.preparations() if store is not None else ()
    if not made or store is None:
        return
    why = obstacle(maker, perturbations)
    if why:
        log.warning("%s: its prepared voxels are of no use here and clouds are read: %s.", store.folder, why)
        return
    difference = maker.prepared.missing(made)
    if difference:
        log.warning(
            "%s: its voxels were prepared for another configuration or by other code (%s), so clouds are read; "
            "pack_dataset %s --prepare YAML makes those of this one.",
            store.folder,
            difference,
            store.folder,
        )


def _all_of(roster: Roster, modality: str) -> Roster:
    """The same agents, all of one modality."""
    return replace(
        roster,
        ego_modalities=(modality,),
        modalities=(modality,),
        preference={modality: 1.0},
        groups=tuple((modality,) for _ in roster.groups),
        validation=False,
        apart=False,
        drawn=True,
    )
