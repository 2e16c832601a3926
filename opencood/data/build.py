"""From hypes to a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, quirk
from opencood.data.dataset import CooperativeDataset
from opencood.data.draws import Draws
from opencood.data.modality import build_roster
from opencood.data.perturb.delay import build_delay, build_wild_delay
from opencood.data.perturb.pose import build_pose_noise
from opencood.data.readers.base import ReaderSettings
from opencood.data.samples.base import SampleMaker
from opencood.data.samples.inputs import input_source
from opencood.data.samples.settings import max_cav_of, read_settings
from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY

_ON_BAD_FRAME = ("error", "skip")
_DEFAULT_SEED = 303  # the seed of the published tools
_DEFAULT_FORMAT = "opv2v"
# Files of these repositories do not name their data set.
_FORMAT_OF_FLAVOR = {"coopre": "v2xreal", "v2xreal": "v2xreal", "v2v4real": "v2v4real"}


def build_dataset(
    hypes: Mapping[str, Any], train: bool, visualize: bool = False, *, draws: Draws | None = None
) -> CooperativeDataset:
    """Build the data set of one split.

    Args:
        hypes: configuration after its parser. ``root_dir`` is opened in training, ``validate_dir`` otherwise; relative
            folders are relative to the working directory. ``on_bad_frame`` says what a broken frame does.
        train: training order, random augmentation and modalities; otherwise all is fixed.
        visualize: batches also hold the raw clouds (evaluation tools).
        draws: generators for every draw; None = own ones, derived from (seed, epoch, index).

    Raises:
        ConfigError: a section, key or name is missing or unknown.
        DataError: the folder is missing, empty or broken.
    """
    fusion = hypes.get("fusion") or {}
    method = fusion.get("core_method")
    if method is None:
        raise ConfigError("fusion.core_method: missing.")
    entry = REGISTRY.get("sample", method, where="fusion.core_method")
    dataset = fusion.get("dataset") or _FORMAT_OF_FLAVOR.get(flavor_of(hypes), _DEFAULT_FORMAT)
    reader_type: Any = REGISTRY.get("reader", dataset, where="fusion.dataset").target
    maker = entry.target(read_settings(hypes, train, visualize, reader_type.conventions))
    _refuse_unavailable(hypes, train)
    reader_settings = _reader_settings(hypes, train, maker)
    if reader_settings.delay is not None and not reader_type.conventions.delayable:
        raise ConfigError(f"delay: the frames of {dataset} do not follow each other; switch it off.")
    return CooperativeDataset(
        hypes,
        reader_type(reader_settings),
        maker,
        noise=build_pose_noise(hypes.get("noise_setting"), quirk(hypes, "noise_needs_add_pose_noise")),
        skip_broken=reader_settings.skip_broken,
        seed=seed_of(hypes),
        draws=draws,
    )


def _reader_settings(hypes: Mapping[str, Any], train: bool, maker: SampleMaker) -> ReaderSettings:
    key = "root_dir" if train else "validate_dir"
    if not hypes.get(key):
        raise ConfigError(f"{key}: missing; it names the folder of the {'training' if train else 'validation'} split.")
    delay = build_delay(hypes.get("noise_setting"))
    return ReaderSettings(
        root=Path(str(hypes[key])),
        root_key="test_dir" if not train and hypes.get("test_dir") == hypes[key] else key,  # what evaluation opens
        train=train,
        max_cav=max_cav_of(hypes),
        roster=build_roster(hypes, train) if maker.inputs.heterogeneous else None,
        cameras="camera" in input_source(hypes),
        skip_broken=on_bad_frame(hypes) == "skip",
        own_labels=maker.own_labels,
        camera_labels="camera" in maker.inputs.label_types,
        published=maker.settings.published,
        delay=delay or build_wild_delay(hypes.get("wild_setting")),
        pose_only=delay is not None and bool(quirk(hypes, "delay_pose_only")),
        hypes=hypes,
    )


def _refuse_unavailable(hypes: Mapping[str, Any], train: bool) -> None:
    """Settings that would change the data but that nothing reads yet must not be ignored in silence."""
    if (hypes.get("wild_setting") or {}).get("loc_err"):
        raise ConfigError("wild_setting.loc_err: this form of pose noise is not available yet; use noise_setting.")
    if train and (hypes.get("heter") or {}).get("heter_group"):
        raise ConfigError("heter.heter_group: training by groups of modalities is not available yet; remove the key.")


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
