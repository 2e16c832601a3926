"""How long a detector takes: a frame, its parts, a training step; on the configured frames or on simulated ones.

Replaces the published profilers (spec tools.md 6). Samples are counted as samples, the first passes (warm-up) do not
count, and each figure is a median with the quartiles around it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from opencood.batch import to_device
from opencood.communication import Channel
from opencood.config.loader import Hypes, load_yaml
from opencood.config.overrides import parse_range, with_range
from opencood.config.tree import with_value
from opencood.data.build import format_of, seed_of
from opencood.data.frame import EGO
from opencood.errors import DataError
from opencood.evaluation.tables import text_table
from opencood.experiments.build import build_dataset, build_from_scratch, build_loss
from opencood.experiments.describe import describe
from opencood.experiments.devices import choose_device, synchronize
from opencood.experiments.fusion_methods import choose_method, detect
from opencood.experiments.late_messages import CandidateBoxes
from opencood.experiments.machine import machine_facts
from opencood.experiments.model_trace import Clock
from opencood.experiments.shrink import shrink
from opencood.experiments.step_scenes import make_scenes, on_scene
from opencood.models.checkpoints import find_checkpoint, load_checkpoint
from opencood.training.distributed import World
from opencood.training.optimizers import build_optimizer
from opencood.training.order import seed_draws
from opencood.training.settings import settings_from
from opencood.training.step import Criterion, Stepper, has_objects

FRAMES = 8  # different ones that are taken in turn
WHOLE, POST, STEP = "forward", "decoding and NMS", "training step"
MIB = 2**20


@dataclass(frozen=True)
class ProfileOptions:
    """Arguments of ``tools/profile.py``.

    Attributes:
        hypes_yaml: not read with ``model_dir``.
        model_dir: run folder with the configuration and, perhaps, weights.
        agents: numbers of agents that are measured one after the other; none: as many as a frame has.
        runs, warm_up: passes that count, and passes before them.
        training: measure training steps too.
        range_xy: text ``X,Y`` that replaces the detection range, metres.
        half_range: agents reach half as far.
        small: the configuration is shrunk first (see ``experiments/shrink.py``): tries the profile, says nothing.
    """

    hypes_yaml: str | Path | None
    model_dir: str | Path | None = None
    agents: tuple[int, ...] = ()
    runs: int = 20
    warm_up: int = 3
    training: bool = False
    range_xy: str | None = None
    half_range: bool = False
    device: str = "auto"
    small: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds of several passes."""

    name: str
    seconds: tuple[float, ...]
    samples: int = 1

    def row(self) -> tuple[str, ...]:
        """Name, median, quartiles in milliseconds, samples per second."""
        low, middle, high = np.percentile(self.seconds, (25, 50, 75))
        spread = f"{1e3 * low:.2f} .. {1e3 * high:.2f}"
        return self.name, f"{1e3 * middle:.2f}", spread, f"{self.samples / max(middle, 1e-9):.2f}"


@dataclass(frozen=True)
class Profile:
    """What was measured for one number of agents."""

    title: str
    timings: tuple[Timing, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table and what else is to be said."""
        header = ("what", "median ms", "quartiles ms", "samples/s")
        return [self.title, text_table(header, [timing.row() for timing in self.timings]), *self.notes]


def profile(options: ProfileOptions) -> Iterator[Profile]:
    """Measure for each number of agents in turn.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: no frame can be used.
    """
    hypes = _configured(options)
    device = choose_device(options.device)
    with TemporaryDirectory() as scratch:
        hypes, source = _with_frames(hypes, Path(scratch))
        for agents in options.agents or (None,):
            chosen = hypes if agents is None else hypes.replaced(with_value(hypes, "train_params.max_cav", agents))
            yield _measure(chosen, options, device, source, agents)


def _configured(options: ProfileOptions) -> Hypes:
    hypes = load_yaml(options.hypes_yaml, model_dir=options.model_dir)
    if options.range_xy is not None:
        hypes = with_range(hypes, *parse_range(options.range_xy))
    if options.half_range and "comm_range" in hypes:
        hypes = hypes.replaced({**hypes, "comm_range": hypes["comm_range"] / 2})
    return shrink(hypes) if options.small else hypes


def _with_frames(hypes: Hypes, scratch: Path) -> tuple[Hypes, str]:
    """The configuration with frames to read, and a word about them."""
    if hypes.get("test_dir") and Path(str(hypes["test_dir"])).exists():
        return hypes, f"frames of {hypes['test_dir']}"
    name = format_of(hypes)
    make_scenes(scratch, {name})
    return on_scene(hypes, scratch, name), f"simulated frames in {name} format, because test_dir is not there"


def _measure(hypes: Hypes, options: ProfileOptions, device: torch.device, source: str, agents: int | None) -> Profile:
    seed_draws(seed_of(hypes))
    model = build_from_scratch(hypes)
    found = find_checkpoint(options.model_dir) if options.model_dir else None
    if found is not None:
        load_checkpoint(model, found[0])
    model.to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    timings, sizes = _inference(hypes, model.eval(), options, device)
    if options.training:
        timings.append(_training(hypes, model.train(), options, device))
    title = f"{hypes['model']['core_method']} with {min(sizes)} to {max(sizes)} agent(s)"
    return Profile(
        title,
        tuple(timings),
        (
            _operations(hypes, agents or max(sizes)),
            _memory(device),
            f"{options.runs} passes over {source} after {options.warm_up} that do not count, "
            f"{'the weights of ' + str(found[0]) if found else 'random weights'}",
            ", ".join(f"{key} {value}" for key, value in machine_facts().items() if value is not None),
        ),
    )


@torch.inference_mode()
def _inference(
    hypes: Hypes, model: nn.Module, options: ProfileOptions, device: torch.device
) -> tuple[list[Timing], list[int]]:
    """Timings of the whole pass, of each part and of what follows; and the numbers of agents of the frames."""
    dataset = build_dataset(hypes, train=False)
    method, reduce = choose_method(None, hypes), CandidateBoxes(dataset.post_processor)
    batches = [to_device(dataset.collate_batch_test([sample]), device) for sample in _samples(dataset)]
    whole: list[float] = []
    after: list[float] = []
    parts: dict[str, list[float]] = {}
    for number, batch in zip(range(options.warm_up + options.runs), cycle(batches), strict=False):
        with Clock(model, device) as clock:
            seen, outputs = detect(method, model, batch, Channel(), reduce)
        started = perf_counter()
        dataset.post_process(seen, outputs)
        synchronize(device)
        if number < options.warm_up:
            continue
        after.append(perf_counter() - started)
        whole.append(sum(clock.seconds.values()))
        for part, seconds in clock.seconds.items():
            parts.setdefault(part, []).append(seconds)
    timings = [Timing(WHOLE, tuple(whole)), *(Timing(f"  {part}", tuple(own)) for part, own in parts.items())]
    return [*timings, Timing(POST, tuple(after))], [_agents_of(batch) for batch in batches]


def _training(hypes: Hypes, model: nn.Module, options: ProfileOptions, device: torch.device) -> Timing:
    dataset = build_dataset(hypes, train=True)
    settings = settings_from(hypes)
    criterion = Criterion(build_loss(hypes), dataset.supervise_single, settings.single_weight)
    optimizer = build_optimizer(model, hypes.get("optimizer") or {})
    stepper = Stepper(model, optimizer, criterion, World(device=device), grad_clip=settings.grad_clip)
    samples = [sample for sample in _samples(dataset) if has_objects(sample[EGO])]
    if not samples:
        raise DataError("none of the first training frames holds an object: nothing to train on.")
    size = min(settings.batch_size, len(samples))
    ego = to_device(dataset.collate_batch_train(samples[:size])[EGO], device)

    def step() -> None:
        stepper({**ego, "epoch": 0})
        synchronize(device)

    return Timing(f"{STEP}, batch of {size}", _seconds(step, options), size)


def _seconds(run: Callable[[], None], options: ProfileOptions) -> tuple[float, ...]:
    taken = []
    for number in range(options.warm_up + options.runs):
        started = perf_counter()
        run()
        if number >= options.warm_up:
            taken.append(perf_counter() - started)
    return tuple(taken)


def _samples(dataset: Any) -> Sequence[Any]:
    """The first frames in which somebody takes part.

    Raises:
        DataError: there is none.
    """
    found = [sample for index in range(min(FRAMES, len(dataset))) if (sample := dataset[index]) is not None]
    if not found:
        raise DataError("none of the first frames has a valid agent: nothing to measure on.")
    return found


def _agents_of(batch: Any) -> int:
    lengths = batch[EGO].get("record_len")
    return len(batch) if lengths is None else int(lengths[0])


def _operations(hypes: Hypes, agents: int) -> str:
    told = describe(hypes.replaced({**hypes, "missing_checkpoints": "scratch"}), agents).lines()
    return "\n".join(line for line in told if line.startswith(("parameters:", "operations for")))


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"peak memory: {torch.cuda.max_memory_allocated(device) / MIB:.0f} MiB allocated on {device}"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"peak memory: {peak / MIB:.0f} MiB of the whole process"
