"""What an evaluation needs, built once: configuration, data set, detector with its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opencood.communication import Channel, ChannelSettings
from opencood.config.flavor import parity_of
from opencood.config.loader import Hypes
from opencood.config.overrides import parse_range
from opencood.config.pretrain import refuse_pretraining
from opencood.data.perturb.settings import describe
from opencood.errors import CheckpointError, ConfigError
from opencood.experiments.build import build_dataset, build_model
from opencood.experiments.devices import choose_device
from opencood.experiments.evaluate import parse_bands
from opencood.experiments.fusion_methods import FusionMethod, check_agents, choose_method, parse_agents
from opencood.experiments.late_messages import CandidateBoxes
from opencood.experiments.participants import FirstAgents
from opencood.experiments.results import channel_note, infer_info, perturb_note, split_note
from opencood.experiments.run_folder import RangeChoice, open_run_folder
from opencood.models.checkpoints import find_checkpoint, load_checkpoint

log = logging.getLogger(__name__)

SEED = 303


@dataclass(frozen=True)
class InferenceOptions:
    """Arguments of ``tools/inference.py``.

    Attributes:
        model_dir: run folder with ``config.yaml`` and checkpoints.
        fusion_method: see ``fusion_methods.METHODS``; None takes the configuration's own.
        agents: ``ego``, ``k`` or ``1..k``: only these take part, the ground truth stays that of all; None = all.
        range_xy: text ``X,Y`` of ``--range`` in metres; None keeps the configured range (published: flavor default).
        save_vis_interval: a picture every so many frames; 0 = none.
        bands: distances from the ego that are also evaluated by themselves (``evaluate.parse_bands``); None: the
            published ones where there are several classes, none otherwise.
        limit: only the first so many frames.
        epoch: of the checkpoint; None takes the best by validation, else the latest.
        test_dir: another split than the configured ``test_dir``, such as OPV2V's ``test_culver_city``.
        dataset_mode: replaces the configured one (V2X-Real: vc, v2v, ic, i2i).
        untrained: go on without a checkpoint.
        channel: keys that replace those of the configuration's section ``channel``.
        perturb: section ``perturb`` that is laid over the configured one; ``_replace_: true`` forgets that one.
        info: replaces the ``infer_info`` part of result and picture names.
        noise: pose noise ``{pos_std, rot_std, pos_mean, rot_mean, laplace}`` that replaces the configured one.
        label: replaces the method in the names of results and pictures.
        suffix: appended to the ``infer_info`` part.
        results: write the result YAML.
        output_dir: where results and pictures go; None is the run folder.
        as_in_training: build the detector as for training, with the checkpoints that CodeAlign then reads.
        edit: keys that replace those of the configuration, given it (see ``open_run_folder``).
        range_quirk: quirk with the tool's default range.
    """

    model_dir: Path
    fusion_method: str | None = None
    agents: str | int | None = None
    range_xy: str | None = None
    save_vis_interval: int = 40
    save_npy: bool = False
    save_detections: Path | None = None
    bands: str | None = None
    no_score: bool = False
    note: str = ""
    device: str = "auto"
    workers: int = 4
    limit: int | None = None
    epoch: int | None = None
    test_dir: str | None = None
    dataset_mode: str | None = None
    parity: str | None = None
    untrained: bool = False
    seed: int = SEED
    noise: dict[str, Any] | None = None
    channel: dict[str, Any] | None = None
    perturb: dict[str, Any] | None = None
    info: str | None = None
    label: str | None = None
    suffix: str = ""
    results: bool = True
    output_dir: Path | None = None
    as_in_training: bool = False
    progress: bool = True
    edit: Callable[[Hypes], Mapping[str, Any]] | None = None
    range_quirk: str = "inference_range"


@dataclass
class Session:
    """Everything built for one evaluation, so that several (levels, subsets of agents) can share the detector."""

    options: InferenceOptions
    hypes: Hypes
    method: FusionMethod
    agents: int | None
    range_choice: RangeChoice
    dataset: Any
    model: nn.Module
    device: torch.device
    checkpoint: Path | None
    epoch: int
    notes: list[str] = field(default_factory=list)
    levels: ChannelSettings = field(default_factory=ChannelSettings)

    def channel(self) -> Channel:
        """What the messages of an evaluation go through."""
        return Channel(agents=self.agents, settings=self.levels, seed=self.options.seed)

    @cached_property
    def reduce(self) -> CandidateBoxes:
        """From an agent's outputs to what it sends in late fusion."""
        return CandidateBoxes(self.dataset.post_processor, self.dataset.post_processors)

    @property
    def folder(self) -> Path:
        """Where results and pictures go."""
        return Path(self.options.output_dir or self.options.model_dir)

    @property
    def info(self) -> str:
        """The ``infer_info`` part of result and picture names."""
        if self.options.info is not None:
            return self.options.info
        note = self.options.note + split_note(self.options.test_dir, self.options.dataset_mode)
        note += channel_note(self.options.channel) + perturb_note(self.options.perturb)
        name = infer_info(self.options.label or self.method.name, note, self.range_choice, self.epoch, self.agents)
        return name + self.options.suffix


def open_session(options: InferenceOptions) -> Session:
    """Read the run folder, apply the options and build data set and detector.

    Raises:
        ConfigError: an option is wrong or contradicts the configuration.
        CheckpointError: the folder holds no checkpoint, or one of another model.
        DataError: the data folder is missing or broken.
    """
    _check_options(options)
    range_xy = None if options.range_xy is None else parse_range(options.range_xy)
    hypes, range_choice = open_run_folder(
        options.model_dir,
        options.parity,
        range_xy,
        options.noise,
        options.seed,
        options.perturb,
        lambda hypes: {**_split_of(options), **(options.edit(hypes) if options.edit else {})},
        options.range_quirk,
        options.test_dir,
    )
    refuse_pretraining(hypes, "there is nothing to test")
    method = choose_method(options.fusion_method, hypes)
    agents = parse_agents(options.agents)
    check_agents(method, agents)
    if parity_of(hypes) == "published":
        np.random.seed(options.seed)
    levels = ChannelSettings.of(ChannelSettings.of(hypes.get("channel")).changes() | (options.channel or {}))
    device = choose_device(options.device)
    dataset = build_dataset(hypes, train=False, visualize=True)
    if method.family == "early" and agents is not None:
        dataset.wrap_readers(lambda reader: FirstAgents(reader, agents, hypes))
    model = build_model(_self_contained(hypes, options), train_flag=options.as_in_training)
    checkpoint, epoch = _load_weights(model, options)
    model.to(device).eval()
    notes = range_choice.notes()
    notes += [f"not sent, but used: {leak}." for leak in getattr(getattr(model, "link", None), "leaks", ())]
    disturbed = describe(hypes.get("perturb"), train=False)
    if disturbed:
        notes.append(f"disturbed by {disturbed}.")
    session = Session(
        options, hypes, method, agents, range_choice, dataset, model, device, checkpoint, epoch, notes, levels
    )
    if method.family == "early" and levels.changes():
        dataset.send_points_through(session.channel())
    return session


def _check_options(options: InferenceOptions) -> None:
    if Path(options.note).name != options.note:
        raise ConfigError(f"--note: '{options.note}' becomes a part of file names and cannot hold a '/'.")
    parse_bands(options.bands)
    if options.save_detections is not None and Path(options.save_detections).is_dir():
        raise ConfigError(f"--save_detections: '{options.save_detections}' is a folder; give a file such as boxes.npz.")


def _self_contained(hypes: Hypes, options: InferenceOptions) -> Hypes:
    """The configuration of a folder with a checkpoint needs no checkpoint of an earlier stage."""
    if find_checkpoint(options.model_dir) is None:
        return hypes
    return hypes.replaced({**hypes, "missing_checkpoints": "scratch"})


def _split_of(options: InferenceOptions) -> dict[str, Any]:
    """The keys of the configuration that the options replace because they decide what is tested on."""
    return {} if options.dataset_mode is None else {"dataset_mode": options.dataset_mode}


def _load_weights(model: nn.Module, options: InferenceOptions) -> tuple[Path | None, int]:
    found = find_checkpoint(options.model_dir, options.epoch)
    if found is None:
        if options.untrained or getattr(model, "has_weights", False):
            return None, 0
        raise CheckpointError(
            f"{options.model_dir}: holds no checkpoint (net_epoch*.pth). Train first, or pass --untrained to test "
            f"random weights."
        )
    path, epoch = Path(found[0]), int(found[1])
    report = load_checkpoint(model, path)
    _refuse_untrained(model, path, report.missing)
    log.log(logging.INFO if report.complete else logging.WARNING, "%s: %s", path, report)
    return path, epoch


def _refuse_untrained(model: nn.Module, path: Path, missing: Sequence[str]) -> None:
    """Parts that should have come from a checkpoint of an earlier stage, and are in none."""
    unread: Mapping[str, str] = getattr(model, "unread", {})
    lost = {part: file for part, file in unread.items() if any(key.startswith(f"{part}.") for key in missing)}
    if lost:
        told = ", ".join(f"{part} ({file})" for part, file in lost.items())
        raise CheckpointError(f"{path}: has no weights of {told}, and these files do not exist. Restore them.")
