"""Simulate a data set: scenarios of a preset, written in one format, with a manifest of what was made."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import opencood
from opencood.errors import ConfigError, StorageError
from opencood.experiments.processes import fresh_processes
from opencood.registry import REGISTRY
from opencood.simulation.presets import PRESETS, SPLITS, Preset, find_preset, scenario_plans, with_beams
from opencood.simulation.recording import Frame
from opencood.simulation.roads import ROAD_TYPES
from opencood.simulation.scenario import SENSOR_HEIGHT, Scenario, ScenarioPlan
from opencood.simulation.stats import Census, Statistics, join, statistics, table, take_census
from opencood.simulation.writers.base import Cast
from opencood.simulation.writers.storage import SCRATCH, storing, write_json

MANIFEST = "simulation.json"
LOWEST_SENSOR, HIGHEST_SENSOR = 1.6, 3.0  # metres: above a car's roof, and of a lorry's mast
# Told of a scenario only where they are not what they always were, so that what was simulated before stays the same.
_NEWER = {"road_type": "mixed", "sensor_height": SENSOR_HEIGHT}


@dataclass(frozen=True)
class SimulationOptions:
    """What to simulate; None takes the preset's value.

    Attributes:
        out: data set folder to make; must be absent or empty unless ``overwrite``.
        preset: name in ``opencood.simulation.presets``.
        scenarios: numbers for train, validate, test; a single number is that of train, the others in proportion.
        frames: frames per scenario.
        agents: smallest and largest number of connected cars; None takes the preset's as far as the format allows it.
        rsu: add a roadside unit, where the format does not have them anyway.
        beams: LiDAR beams.
        sensor_height: of the cars' LiDARs above the ground, metres.
        roads: road type (``simulation.roads.ROAD_TYPES``).
        cameras: give every agent four cameras, with depth pictures and visibility maps.
        image_size: width and height of the pictures, pixels.
        fov: horizontal field of view of the cameras, degrees.
        extra_beams: further clouds of LiDARs with so many beams, 32 and 16 as in OPV2V-H.
        seed: the same seed gives the same content.
        format: registered writer.
        jobs: processes.
        overwrite: replace an earlier simulation in ``out``.
        stats: also compute statistics of the test split.
    """

    out: Path
    preset: str = "small"
    scenarios: tuple[int, ...] | None = None
    frames: int | None = None
    agents: tuple[int, int] | None = None
    rsu: bool = False
    beams: int | None = None
    sensor_height: float | None = None
    roads: str | None = None
    cameras: bool = False
    image_size: tuple[int, int] | None = None
    fov: float | None = None
    extra_beams: tuple[int, ...] = ()
    seed: int = 0
    format: str = "opv2v"
    jobs: int = 1
    overwrite: bool = False
    stats: bool = False


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
    preset = _adjusted(find_preset(options.preset), options, writer.cast)
    plans = scenario_plans(preset, options.seed)
    _make_room(options.out, options.overwrite)
    with _whole_or_nothing(options.out):
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


def _adjusted(preset: Preset, options: SimulationOptions, cast: Cast) -> Preset:
    """The preset with the options' numbers and the format's cast."""
    if options.seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {options.seed}.")
    if options.jobs < 1:
        raise ConfigError(f"--jobs: expected at least 1, got {options.jobs}.")
    if options.scenarios is not None:
        preset = replace(preset, scenarios=_scenario_counts(options.scenarios, preset.scenarios))
    if options.frames is not None:
        if options.frames < 1:
            raise ConfigError(f"--frames: expected at least 1, got {options.frames}.")
        preset = replace(preset, frames=options.frames)
    if options.agents is not None:
        low, high = options.agents
        if not 1 <= low <= high <= 5:
            raise ConfigError(f"--agents: expected a range inside 1-5 such as 2-5, got {low}-{high}.")
    if options.beams is not None:
        if options.beams not in (16, 32, 64):
            raise ConfigError(f"--beams: expected 16, 32 or 64, got {options.beams}.")
        preset = with_beams(preset, options.beams)
    if options.sensor_height is not None:
        if not LOWEST_SENSOR <= options.sensor_height <= HIGHEST_SENSOR:
            raise ConfigError(
                f"--sensor_height: expected {LOWEST_SENSOR} to {HIGHEST_SENSOR} m, got {options.sensor_height}."
            )
        preset = replace(preset, sensor_height=options.sensor_height)
    if options.roads is not None:
        if options.roads not in ROAD_TYPES:
            raise ConfigError(f"--roads: '{options.roads}' is none of {', '.join(ROAD_TYPES)}.")
        preset = replace(preset, road_type=options.roads)
    return _with_cast(_with_sensors(preset, options), options, cast)


def _with_cast(preset: Preset, options: SimulationOptions, cast: Cast) -> Preset:
    """The preset with those who take part in a scenario of the format."""
    fewest, most = cast.cars
    low, high = options.agents or (min(max(number, fewest), most) for number in preset.agents)
    if low < fewest or high > most:
        raise ConfigError(f"--agents: a scenario of {options.format} has {_count(cast.cars)} connected car(s).")
    fewest, most = cast.roadside
    roadside = max(preset.roadside, int(options.rsu), fewest)
    if roadside > most:
        raise ConfigError(f"--rsu: a scenario of {options.format} has {_count(cast.roadside)} roadside unit(s).")
    return replace(preset, agents=(low, high), roadside=roadside)


def _count(interval: tuple[int, int]) -> str:
    low, high = interval
    return str(low) if low == high else f"{low} to {high}"


def _with_sensors(preset: Preset, options: SimulationOptions) -> Preset:
    """The preset with the options' cameras and further LiDARs."""
    wrong = [beams for beams in options.extra_beams if beams not in (16, 32)]
    if wrong:
        raise ConfigError(f"--extra_beams: expected 32, 16 or 32,16, got {wrong[0]}.")
    camera = preset.camera
    if options.image_size is not None:
        camera = replace(camera, width=options.image_size[0], height=options.image_size[1])
    if options.fov is not None:
        camera = replace(camera, fov=options.fov)
    return replace(preset, camera=camera, cameras=options.cameras, fewer_beams=options.extra_beams)


def _scenario_counts(wanted: tuple[int, ...], default: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(wanted) not in (1, 3) or min(wanted) < (1 if len(wanted) == 1 else 0) or not sum(wanted):
        raise ConfigError(
            f"--scenarios: expected a number for train, or three numbers train,validate,test; got {wanted}."
        )
    if len(wanted) == 3:
        return wanted[0], wanted[1], wanted[2]
    share = wanted[0] / default[0]
    return wanted[0], max(1, round(default[1] * share)), max(1, round(default[2] * share))


def _make_room(out: Path, overwrite: bool) -> None:
    """Make sure that ``out`` is an empty folder; only an earlier simulation is ever removed."""
    with storing(out):
        entries = {entry.name for entry in out.iterdir()} if out.exists() else set()
        if entries and not overwrite:
            raise StorageError(f"{out} is not empty. Choose another --out, or replace its content with --overwrite.")
        if entries and not entries & {MANIFEST, SCRATCH}:
            raise StorageError(
                f"{out} holds files that are not a simulated data set; remove them or choose another --out."
            )
        _remove_ours(out)
        (out / SCRATCH).mkdir(parents=True)


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[None]:
    """A data set that lacks scenarios must not be taken for a whole one: what was made goes when the block fails."""
    try:
        yield
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
    except BaseException:
        with suppress(OSError):
            _remove_ours(out)
        raise


def _remove_ours(out: Path) -> None:
    """Remove what any format leaves: an earlier simulation may have been of another one."""
    writers = [REGISTRY.build("writer", name, root=out) for name in REGISTRY.names("writer")]
    owned = {name for writer in writers for name in writer.owns}
    for path in (out / name for name in sorted(owned | {SCRATCH, MANIFEST})):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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
