"""From hypes to a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, quirk
from opencood.config.splits import entries_of, is_several
from opencood.config.tree import given
from opencood.data.combined import CombinedDataset
from opencood.data.dataset import CooperativeDataset, PublishedNoise
from opencood.data.draws import Draws
from opencood.data.modality import build_roster
from opencood.data.perturb.box_alignment import BoxAlignment, build_box_alignment
from opencood.data.perturb.delay import build_delay, build_wild_delay
from opencood.data.perturb.localisation import build_localisation_error
from opencood.data.perturb.pose import build_pose_noise
from opencood.data.perturb.settings import Perturbations, active, build_perturbations
from opencood.data.perturb.timing import Timing
from opencood.data.prepare import tell_what_is_prepared
from opencood.data.readers.base import ReaderSettings
from opencood.data.samples.base import SampleMaker
from opencood.data.samples.intermediate import Intermediate
from opencood.data.samples.sensors import input_source
from opencood.data.samples.settings import read_settings
from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY

log = logging.getLogger(__name__)

_ON_BAD_FRAME = ("error", "skip")
_DEFAULT_SEED = 303  # the seed of the published tools
_DEFAULT_FORMAT = "opv2v"
# Files of these repositories do not name their data set.
_FORMAT_OF_FLAVOR = {"coopre": "v2xreal", "v2xreal": "v2xreal", "v2v4real": "v2v4real"}


def build_dataset(
    hypes: Mapping[str, Any], train: bool, visualize: bool = False, *, draws: Draws | None = None
) -> CooperativeDataset | CombinedDataset:
    """Build the data set of one split, or of several data sets together.

    Args:
        hypes: configuration after its parser. ``root_dir`` is opened in training, ``validate_dir`` otherwise; relative
            folders are relative to the working directory. A list of ``{path, dataset, mode, range, set}`` is several
            data sets, one after the other. ``on_bad_frame`` says what a broken frame does.
        train: training order, random augmentation and modalities; otherwise all is fixed.
        visualize: batches also hold the raw clouds (evaluation tools).
        draws: generators for every draw; None = own ones, derived from (seed, epoch, index).

    Raises:
        ConfigError: a section, key or name is missing or unknown.
        DataError: the folder is missing, empty or broken.
    """
    key = "root_dir" if train else "validate_dir"
    if not hypes.get(key):
        raise ConfigError(f"{key}: missing; it names the folder of the {'training' if train else 'validation'} split.")
    # what evaluation opens was written as test_dir
    root_key = "test_dir" if not train and hypes.get("test_dir") == hypes[key] else key
    if not is_several(hypes[key]):
        return _single(hypes, train, visualize, Path(str(hypes[key])), root_key, seed_of(hypes), draws)
    # Far apart, so that no data set draws what another seed of the user draws.
    parts = [
        _single(entry, train, visualize, Path(entry[key]), f"{root_key}[{k}]", seed_of(hypes) + (k << 32), draws)
        for k, entry in enumerate(entries_of(hypes, key))
    ]
    return CombinedDataset(hypes, parts)


def _single(
    hypes: Mapping[str, Any],
    train: bool,
    visualize: bool,
    root: Path,
    root_key: str,
    seed: int,
    draws: Draws | None,
) -> CooperativeDataset:
    """The data set of one folder or file; ``root_key`` names it in messages."""
    parts = parts_of(hypes, train, visualize, root, root_key, seed)
    tell_what_is_prepared(parts.maker, parts.perturbations, root)
    return CooperativeDataset(
        hypes,
        parts.reader_type(parts.reader_settings),
        parts.maker,
        noise=_published_noise(hypes, train, parts.maker, parts.perturbations),
        perturbations=parts.perturbations,
        correction=_correction(hypes, train, parts.maker),
        skip_broken=parts.reader_settings.skip_broken,
        seed=seed,
        draws=draws,
    )


@dataclass(frozen=True)
class Parts:
    """What a data set is made of, its reader not yet opened."""

    maker: SampleMaker
    perturbations: Perturbations
    reader_type: Any
    reader_settings: ReaderSettings


def parts_of(hypes: Mapping[str, Any], train: bool, visualize: bool, root: Path, root_key: str, seed: int) -> Parts:
    """Build the parts of the data set of one folder or file; ``root_key`` names it in messages.

    Raises:
        ConfigError: as ``build_dataset``.
    """
    method = (hypes.get("fusion") or {}).get("core_method")
    if method is None:
        raise ConfigError("fusion.core_method: missing.")
    entry = REGISTRY.get("sample", method, where="fusion.core_method")
    reader_type: Any = REGISTRY.get("reader", format_of(hypes), where="fusion.dataset").target
    maker = entry.target(read_settings(hypes, train, visualize, reader_type.conventions))
    perturbations = build_perturbations(hypes.get("perturb"), train, seed, maker.settings.comm_range)
    return Parts(
        maker, perturbations, reader_type, _reader_settings(hypes, train, maker, perturbations, root, root_key)
    )


def format_of(hypes: Mapping[str, Any]) -> str:
    """The format of the data: ``fusion.dataset``, else that of the repository the file comes from."""
    named = (hypes.get("fusion") or {}).get("dataset")
    return str(named or _FORMAT_OF_FLAVOR.get(flavor_of(hypes), _DEFAULT_FORMAT))


def gt_range_of(hypes: Mapping[str, Any]) -> Sequence[float]:
    """The range of evaluation: ``postprocess.gt_range``, else the constant of the repositories that do not state it.

    Raises:
        ConfigError: there is neither, or the format is unknown.
    """
    reader: Any = REGISTRY.get("reader", format_of(hypes), where="fusion.dataset").target
    limits = given(given(hypes, "postprocess") or {}, "gt_range") or reader.conventions.default_gt_range
    if limits is None:
        raise ConfigError("postprocess.gt_range: missing.")
    found: Sequence[float] = limits
    return found


def _published_noise(
    hypes: Mapping[str, Any], train: bool, maker: SampleMaker, perturbations: Perturbations
) -> PublishedNoise | None:
    """The pose noise of ``noise_setting`` or ``wild_setting``, whose draws keep the published order.

    Raises:
        ConfigError: pose noise is asked for in two places.
    """
    noise = build_pose_noise(hypes.get("noise_setting"), quirk(hypes, "noise_needs_add_pose_noise"))
    constant = not train and bool(quirk(hypes, "loc_err_constant"))
    error = build_localisation_error(hypes.get("wild_setting"), constant)
    if error is not None and quirk(hypes, "loc_err_intermediate_only") and not isinstance(maker, Intermediate):
        error = None
    mine = {"pose_noise", "localisation_error"} & {name for name, _ in perturbations.steps}
    asked = [
        name
        for name, given in (("noise_setting.add_noise", noise), ("wild_setting.loc_err", error), ("perturb", mine))
        if given
    ]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: pose noise is asked for twice; keep one.")
    return noise or error


def _correction(hypes: Mapping[str, Any], train: bool, maker: SampleMaker) -> BoxAlignment | None:
    """The pose correction of ``box_align``.

    Raises:
        ConfigError: it is asked for in two places.
    """
    section = given(hypes, "box_align")
    if section and maker.inputs.heterogeneous and not quirk(hypes, "box_align_in_heter"):
        log.warning("box_align: without effect in heterogeneous samples of this repository, as published.")
        return None
    if section and "box_alignment" in active(hypes.get("perturb"), train):
        raise ConfigError("box_align and perturb.box_alignment: pose correction is asked for twice; keep one.")
    return build_box_alignment(section, train, maker.settings.comm_range)


def _timing(hypes: Mapping[str, Any], perturbations: Perturbations) -> tuple[Timing | None, bool]:
    """What makes observations old, and whether only poses are.

    Raises:
        ConfigError: it is asked for in two places.
    """
    noise, wild = build_delay(hypes.get("noise_setting")), build_wild_delay(hypes.get("wild_setting"))
    places = (
        ("noise_setting.add_async_noise", noise),
        ("wild_setting.async", wild),
        ("perturb", perturbations.timing),
    )
    asked = [name for name, given in places if given is not None]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: delay is asked for twice; keep one.")
    if noise is not None:
        return noise, bool(quirk(hypes, "delay_pose_only"))
    return wild or perturbations.timing, perturbations.pose_only


def _reader_settings(
    hypes: Mapping[str, Any],
    train: bool,
    maker: SampleMaker,
    perturbations: Perturbations,
    root: Path,
    root_key: str,
) -> ReaderSettings:
    closed = maker.settings.conventions.closed
    timing, pose_only = _timing(hypes, perturbations)
    return ReaderSettings(
        root=root,
        root_key=root_key,
        train=train,
        max_cav=maker.settings.max_cav,
        roster=build_roster(hypes, train, closed) if maker.inputs.heterogeneous else None,
        cameras="camera" in input_source(hypes) or maker.inputs.with_cameras,
        skip_broken=on_bad_frame(hypes) == "skip",
        own_labels=maker.own_labels,
        camera_labels=maker.settings.labels and "camera" in maker.inputs.label_types,
        labels=maker.settings.labels,
        published=maker.settings.published,
        timing=timing,
        pose_only=pose_only,
        hypes=hypes,
    )


def on_bad_frame(hypes: Mapping[str, Any]) -> str:
    """Return what a broken frame does: ``error`` (default) or ``skip``.

    Raises:
        ConfigError: another value is given.
    """
    value = hypes.get("on_bad_frame", "error")
    if value not in _ON_BAD_FRAME:
        raise ConfigError(
            f"on_bad_frame: '{value}' is none of {', '.join(_ON_BAD_FRAME)}.{nearest(value, _ON_BAD_FRAME)}"
        )
    return value


def seed_of(hypes: Mapping[str, Any]) -> int:
    """Return the seed of a configuration: ``seed``, else ``train_params.seed``, else that of the published tools."""
    return int(hypes.get("seed", (hypes.get("train_params") or {}).get("seed", _DEFAULT_SEED)))
