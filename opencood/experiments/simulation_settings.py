"""What to simulate: a preset with the numbers of the command line and the cast of a format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from opencood.errors import ConfigError
from opencood.simulation.presets import Preset, with_beams
from opencood.simulation.roads import ROAD_TYPES
from opencood.simulation.writers.base import Cast

LOWEST_SENSOR, HIGHEST_SENSOR = 1.6, 3.0  # metres: above a car's roof, and of a lorry's mast


@dataclass(frozen=True)
class SimulationOptions:
    """What to simulate; None takes the preset's value.

    Attributes:
        out: data set folder to make; must be absent or empty unless ``overwrite``.
        preset: name in ``opencood.simulation.presets``.
        scenarios: numbers for train, validate, test; a single number is that of train, the others in proportion.
        frames: frames per scenario.
        stride: tenths of a second between two frames.
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
    stride: int | None = None
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


def adjusted(preset: Preset, options: SimulationOptions, cast: Cast) -> Preset:
    """The preset with the options' numbers and the format's cast.

    Raises:
        ConfigError: a number is out of its range, or not what the format can hold.
    """
    if options.seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {options.seed}.")
    if options.jobs < 1:
        raise ConfigError(f"--jobs: expected at least 1, got {options.jobs}.")
    if options.scenarios is not None:
        preset = replace(preset, scenarios=_scenario_counts(options.scenarios, preset.scenarios))
    for name in ("frames", "stride"):
        number = getattr(options, name)
        if number is not None:
            if number < 1:
                raise ConfigError(f"--{name}: expected at least 1, got {number}.")
            preset = replace(preset, **{name: number})
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
