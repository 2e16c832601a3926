"""Simulate a data set: scenarios of a preset, written in one format, with a manifest of what was made."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

import opencood
from opencood.experiments.processes import fresh_processes
from opencood.experiments.simulation_room import MANIFEST, make_room, whole_or_nothing
from opencood.experiments.simulation_settings import SimulationOptions, adjusted
from opencood.registry import REGISTRY
from opencood.simulation.presets import PRESETS, SPLITS, Preset, find_preset, scenario_plans
from opencood.simulation.recording import Frame
from opencood.simulation.scenario import SENSOR_HEIGHT, Scenario, ScenarioPlan
from opencood.simulation.stats import Census, Statistics, join, statistics, table, take_census
from opencood.simulation.writers.base import Cast
from opencood.simulation.writers.storage import write_json

__all__ = [
    "MANIFEST",
    "SimulationOptions",
    "SimulationReport",
    "cast_of",
    "format_help",
    "preset_help",
    "simulate",
    "statistics_table",
]

# Told of a scenario only where they are not what they always were, so that what was simulated before stays the same.
_NEWER = {"road_type": "mixed", "sensor_height": SENSOR_HEIGHT}


@dataclass(frozen=True)
class SimulationReport:
    """What was made: frames per split, fingerprint of the whole content, size, time, and statistics if asked for."""

    out: Path
    frames: dict[str, int]
    digest: str
    bytes: int
    seconds: float
    statistics: Statistics | None


@dataclass(frozen=True)
class _Made:
    """Result of one scenario, small enough to travel between processes."""

    plan: ScenarioPlan
    written: Any
    world_digest: str
    census: Census


def simulate(options: SimulationOptions) -> SimulationReport:
    """Simulate all scenarios and write the data set.

    Raises:
        ConfigError: unknown preset or format, or impossible numbers.
        StorageError: ``out`` holds something already, or cannot be written.
    """
    started = time.perf_counter()
    writer = REGISTRY.build("writer", options.format, where="--format", root=options.out)
    preset = adjusted(find_preset(options.preset), options, writer.cast)
    plans = scenario_plans(preset, options.seed)
    make_room(options.out, options.overwrite)
    with whole_or_nothing(options.out):
        made = sorted(_play_all(plans, options), key=lambda item: SPLITS.index(item.plan.split))
        written = [item.written for item in made]
        writer.finish(written, options.seed)
        digest = hashlib.sha256("".join(item.digest for item in written).encode()).hexdigest()
        write_json(options.out / MANIFEST, _manifest(options, preset, made, digest))
    return SimulationReport(
        out=options.out,
        frames={split: sum(m.plan.frames for m in made if m.plan.split == split) for split in SPLITS},
        digest=digest,
        bytes=sum(item.bytes for item in written),
        seconds=time.perf_counter() - started,
        statistics=_test_statistics(made) if options.stats else None,
    )


def cast_of(format_name: str) -> Cast:
    """Who takes part in a scenario of a format.

    Raises:
        ConfigError: there is no such format.
    """
    writer: Any = REGISTRY.get("writer", format_name, where="--format").target
    cast: Cast = writer.cast
    return cast


def preset_help() -> str:
    """One phrase that names every preset."""
    return "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())


def format_help() -> str:
    """The names of the formats."""
    return ", ".join(REGISTRY.names("writer"))


def statistics_table(figures: Statistics) -> str:
    """Statistics as a table for a terminal."""
    return table(figures)


def _play_all(plans: list[ScenarioPlan], options: SimulationOptions) -> list[_Made]:
    """Play every scenario, in this process or in several; results in the order of the plans."""
    jobs = [(plan, options.out, options.format, options.preset) for plan in plans]
    frames = sum(plan.frames for plan in plans)
    with tqdm(total=frames, desc="simulate", unit="frame") as progress:
        if options.jobs == 1:
            results = []
            for job in jobs:
                results.append(_play(*job))
                progress.update(job[0].frames)
            return results
        with fresh_processes(options.jobs) as pool:
            futures = [pool.submit(_play, *job) for job in jobs]
            for future in as_completed(futures):
                progress.update(future.result().plan.frames)
            return [future.result() for future in futures]


def _play(plan: ScenarioPlan, out: Path, format_name: str, preset_name: str) -> _Made:
    """Simulate and write one scenario."""
    scenario = Scenario(plan)
    counted: list[Census] = []

    def watched() -> Iterator[Frame]:
        for frame in scenario.frames():
            counted.append(take_census(frame))
            yield frame

    writer = REGISTRY.build("writer", format_name, where="--format", root=out)
    protocol = {"simulator": "opencood", "preset": preset_name, "world": scenario.world_digest, **_plain(_told(plan))}
    written = writer.write(plan, watched(), protocol)
    return _Made(plan, written, scenario.world_digest, join(counted))


def _told(plan: ScenarioPlan) -> dict[str, Any]:
    return {key: value for key, value in asdict(plan).items() if _NEWER.get(key) != value}


def _manifest(options: SimulationOptions, preset: Preset, made: list[_Made], digest: str) -> dict[str, Any]:
    return {
        "simulator": f"opencood {opencood.__version__}",
        "preset": options.preset,
        "seed": options.seed,
        "format": options.format,
        "settings": _plain(asdict(preset)),
        "digest": digest,
        "scenarios": [
            {
                "split": item.plan.split,
                "name": item.written.name,
                "frames": item.plan.frames,
                "agents": list(item.written.agents),
                "boxes": len(item.census.distance),
                "world": item.world_digest,
                "digest": item.written.digest,
            }
            for item in made
        ],
    }


def _test_statistics(made: list[_Made]) -> Statistics:
    """Statistics of the test split, or of everything when there is none."""
    test = [item.census for item in made if item.plan.split == "test"]
    return statistics(join(test or [item.census for item in made]))


def _plain(value: Any) -> Any:
    """The same with lists for tuples, as YAML and JSON know them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
