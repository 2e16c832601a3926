"""From hypes to a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencood.config.flavor import quirk
from opencood.data.dataset import CooperativeDataset
from opencood.data.draws import Draws
from opencood.data.modality import build_roster
from opencood.data.perturb.pose import build_pose_noise
from opencood.data.readers.opv2v import ReaderSettings
from opencood.data.samples.inputs import input_source
from opencood.data.samples.settings import max_cav_of, read_settings
from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY

_ON_BAD_FRAME = ("error", "skip")
_DEFAULT_SEED = 303  # the seed of the published tools
_DEFAULT_FORMAT = "opv2v"


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
    skip = on_bad_frame(hypes) == "skip"
    roster = build_roster(hypes, train) if "heter" in method else None
    key = "root_dir" if train else "validate_dir"
    if not hypes.get(key):
        raise ConfigError(f"{key}: missing; it names the folder of the {'training' if train else 'validation'} split.")
    reader_settings = ReaderSettings(
        root=Path(str(hypes[key])),
        root_key=key,
        train=train,
        max_cav=max_cav_of(hypes),
        roster=roster,
        cameras="camera" in input_source(hypes),
        skip_broken=skip,
    )
    dataset = fusion.get("dataset", _DEFAULT_FORMAT)
    reader = REGISTRY.get("reader", dataset, where="fusion.dataset").target(reader_settings)
    settings = read_settings(hypes, train, visualize, reader.camera_label_range)
    _refuse_unavailable(hypes, train)
    noise = build_pose_noise(hypes.get("noise_setting"), quirk(hypes, "noise_needs_add_pose_noise"))
    return CooperativeDataset(
        hypes,
        reader,
        entry.target(settings),
        noise=noise,
        skip_broken=skip,
        seed=seed_of(hypes),
        draws=draws,
    )


def _refuse_unavailable(hypes: Mapping[str, Any], train: bool) -> None:
    """Settings that would change the data but that nothing reads yet must not be ignored in silence."""
    noise = hypes.get("noise_setting") or {}
    if noise.get("add_noise") and noise.get("add_async_noise"):
        raise ConfigError("noise_setting.add_async_noise: delayed agents are not available yet; set it to false.")
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
