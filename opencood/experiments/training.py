"""Train a detector: hypes in, run folder out (spec tools.md sections 1 and 2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from opencood.config.loader import CONFIG_NAME, Hypes, load_yaml
from opencood.config.perturb import perturbed
from opencood.config.save import save_config
from opencood.config.tree import section
from opencood.data.build import seed_of
from opencood.data.fraction import ChosenFrames
from opencood.errors import ConfigError, OpencoodError, StorageError
from opencood.experiments.adaptation import adapted, adapts_domains, labelled_part
from opencood.experiments.build import build_dataset, build_loss, build_model, build_training_set
from opencood.experiments.distillation import build_teacher, require_teacher
from opencood.experiments.fusion_methods import choose_method
from opencood.experiments.protocol import code_version
from opencood.experiments.run_places import choose_run_folder
from opencood.experiments.sanity import check_start
from opencood.experiments.transfer import has_begun, require_start, start_from, with_start
from opencood.models.checkpoints import find_checkpoint, load_checkpoint
from opencood.models.compiling import compile_dense
from opencood.models.detector import Detector
from opencood.models.diagnostics import first_nonfinite_module
from opencood.models.links.translated_link import TranslatedLink
from opencood.training.checkpoints import LAST, published_part, write_atomically
from opencood.training.distributed import World, join_world
from opencood.training.loop import Trainer
from opencood.training.optimizers import build_optimizer
from opencood.training.order import seed_draws
from opencood.training.schedules import build_schedule
from opencood.training.settings import PRECISIONS, Settings, settings_from

log = logging.getLogger(__name__)

VERSION_FILE = "code_version.txt"
CHOSEN_FILE = "label_fraction.txt"  # the frames that train_params.label_fraction chose


@dataclass(frozen=True)
class TrainingOptions:
    """Arguments of ``tools/train.py``.

    Attributes:
        run_dir: where a new run goes; None makes ``opencood/logs/<name>_<time>``. A folder that holds an unfinished
            run of the same configuration continues it; one with another or a finished run is trained anew.
        fusion_method: of the test after training; None takes the configuration's own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        half: ``bf16``, ``fp16``, or ``auto`` (fp16 on GPUs as published, bf16 on CPUs); None is full precision.
        dist_url: where the processes of a distributed run meet.
        seed: replaces the configuration's.
        workers: loader processes; None takes ``train_params.num_workers`` (4, or the number of cores).
        evaluate: run inference on the test split after training, as the published tools do.
        perturb: section ``perturb`` that is laid over the configured one; ``_replace_: true`` forgets that one.
        distil: a configuration without a teacher is refused.
        balance: sets ``train_params.data_balance``.
        pairs: the test of a CodeAlign training is the pair average, as its distributed trainers have it.
        init_from: checkpoint file or run folder that replaces ``init_from.path``.
        label_fraction: replaces ``train_params.label_fraction``.
        transfer: a configuration without ``init_from`` is refused.
        sanity_frames: how many training frames are checked at the start; 0 for none.
    """

    run_dir: Path | None = None
    fusion_method: str | None = None
    device: str = "auto"
    half: str | None = None
    dist_url: str = "env://"
    seed: int | None = None
    workers: int | None = None
    evaluate: bool = False
    perturb: dict[str, Any] | None = None
    distil: bool = False
    balance: bool = False
    pairs: bool = False
    init_from: str | None = None
    label_fraction: float | None = None
    transfer: bool = False
    sanity_frames: int = 4


def run_training(
    hypes_path: str | Path | None, model_dir: str | Path | None = None, options: TrainingOptions | None = None
) -> Path:
    """Train, or continue the training of ``model_dir``; returns the run folder.

    With ``model_dir`` its configuration is read and ``hypes_path`` ignored; a folder with nothing but a
    configuration is a first training.

    Raises:
        ConfigError: the configuration, an option or their combination is wrong.
        DataError: a data folder is missing or broken.
        CheckpointError: the folder's checkpoint belongs to another model.
        StorageError: a checkpoint could not be written.
    """
    options = options or TrainingOptions()
    hypes = open_hypes(hypes_path, model_dir, options.seed, options.perturb)
    if options.balance:
        hypes = hypes.replaced({**hypes, "train_params": {**section(hypes, "train_params"), "data_balance": True}})
    hypes = with_start(hypes, options.init_from, options.label_fraction)
    if options.transfer:
        require_start(hypes)
    if options.distil:
        require_teacher(hypes)
    method = choose_method(options.fusion_method, hypes) if options.evaluate else None
    world = join_world(None if options.device == "auto" else options.device, options.dist_url)
    try:
        run_dir = _agree(world, lambda: choose_run_folder(hypes, model_dir, options.run_dir))
        _train(hypes, run_dir, world, options)
        world.gather(None)  # nobody leaves while another still talks
    finally:
        world.leave()
    if method is not None and world.is_main:
        from opencood.experiments.final_test import run_final_test  # heavy, and only needed here

        run_final_test(hypes, run_dir, method.name, options.device, options.workers, options.pairs)
    return run_dir


def open_hypes(
    hypes_path: str | Path | None,
    model_dir: str | Path | None,
    seed: int | None = None,
    perturb: Mapping[str, Any] | None = None,
) -> Hypes:
    """Load the configuration of a training; ``seed`` replaces its own, ``perturb`` is laid over its disturbances."""
    hypes = load_yaml(hypes_path, model_dir=model_dir)
    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    changes |= perturbed(hypes, perturb)
    return hypes.replaced({**hypes, **changes}) if changes else hypes


def precision_of(half: str | None, device: torch.device) -> torch.dtype | None:
    """The autocast type that ``--half`` means on a device.

    Raises:
        ConfigError: neither ``auto`` nor a known type.
    """
    if half is None:
        return None
    name = {"cuda": "fp16"}.get(device.type, "bf16") if half == "auto" else half
    if name not in PRECISIONS:
        raise ConfigError(f"--half: '{half}' is none of auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


def build_trainer(hypes: Hypes, run_dir: Path, world: World, settings: Settings) -> Trainer:
    """Build everything a training needs; weights and the order of the data follow from the seed."""
    seed_draws(settings.seed)
    # first, so that a missing checkpoint of an earlier stage is told before any data is read
    model: nn.Module = build_model(_continued(hypes, run_dir))
    if not has_begun(run_dir):
        start_from(model, hypes)
    train_set, loss = build_training_set(hypes), build_loss(hypes)
    if adapts_domains(hypes):
        model, loss, train_set = adapted(hypes, model, loss, train_set)
    model = model.to(world.device)
    val_set = build_dataset(hypes.replaced({**hypes, "val": True}), train=False)
    if settings.compile:
        log.info("compiled: %s", ", ".join(compile_dense(model)) or "nothing, this model has no part for it")
    return Trainer(
        model,
        loss,
        train_set,
        val_set,
        settings,
        run_dir,
        optimizer=build_optimizer(model, hypes.get("optimizer") or {}),
        schedule=build_schedule(hypes.get("lr_scheduler")),
        world=world,
        diagnose=first_nonfinite_module,
        teacher=build_teacher(hypes, world.device),
        targets=targets_of(model),
    )


def _continued(hypes: Hypes, run_dir: Path) -> Hypes:
    """``last.ckpt`` holds every weight, so a run that goes on needs no checkpoint of an earlier stage."""
    return hypes.replaced({**hypes, "missing_checkpoints": "scratch"}) if (run_dir / LAST).is_file() else hypes


def targets_of(model: nn.Module) -> TranslatedLink | None:
    """The part of a detector that chooses between its backends, where it has some."""
    link = model.link if isinstance(model, Detector) else None
    return link if isinstance(link, TranslatedLink) and link.backends else None


def continue_run(trainer: Trainer, run_dir: Path) -> None:
    """Load what the folder holds: ``last.ckpt`` with everything, else weights by the published rule, else nothing."""
    if trainer.resume():
        at = trainer.progress
        log.info("%s: resuming at epoch %d, batch %d", run_dir / LAST, at.epoch + 1, at.step + 1)
        return
    found = find_checkpoint(run_dir)
    if found is not None:
        path, epochs_done = found
        report = load_checkpoint(published_part(trainer.model), path)
        trainer.start_after(epochs_done)
        log.info("%s: %s; resuming at epoch %d with a fresh optimiser", path, report, epochs_done + 1)


def _train(hypes: Hypes, run_dir: Path, world: World, options: TrainingOptions) -> None:
    precision = precision_of(options.half, world.device)
    settings = settings_from(hypes, seed=seed_of(hypes), workers=options.workers, precision=precision)
    try:
        trainer = build_trainer(hypes, run_dir, world, settings)
    except OpencoodError:
        if world.is_main and not any(run_dir.iterdir()):
            run_dir.rmdir()  # nothing began
        raise
    if world.is_main:
        if not (run_dir / CONFIG_NAME).is_file():
            save_config(hypes, run_dir)
        elif options.perturb is not None:
            log.warning(
                "%s does not name the disturbances of this command line; it describes how the run began.",
                run_dir / CONFIG_NAME,
            )
        write_atomically(run_dir / VERSION_FILE, f"{code_version()}\n".encode())
        if isinstance(chosen := trainer.feed.train_dataset, ChosenFrames):
            write_atomically(run_dir / CHOSEN_FILE, "\n".join([*chosen.lines(), ""]).encode())
        log.info("training in %s on %s (%d process(es))", run_dir, world.device, world.size)
        for warning in check_start(hypes, labelled_part(trainer.feed.train_dataset), options.sanity_frames):
            log.warning("%s", warning)
    continue_run(trainer, run_dir)
    trainer.fit()
    _report_left_out(trainer.feed.train_dataset, world)


def _report_left_out(dataset: Any, world: World) -> None:
    """Say how many broken frames ``on_bad_frame: skip`` cost, over all ranks."""
    broken = set().union(*world.gather(dataset.frames_left_out))
    if broken and world.is_main:
        log.warning(
            "%d of %d training frames were broken and left out (on_bad_frame: skip).", len(broken), len(dataset)
        )


def _agree(world: World, choose: Any) -> Path:
    """The folder that rank 0 chose; its error reaches every rank, so that none waits for it."""
    answer: Any = None
    if world.is_main:
        try:
            answer = choose()
        except (ConfigError, StorageError) as error:
            answer = error
    chosen = world.gather(answer)[0]
    if isinstance(chosen, Exception):
        raise chosen
    return chosen
