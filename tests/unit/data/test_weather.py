"""LiDAR weather: numbers by hand from the equations of docs/perturbations.md, and what must hold in every scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.data.build import build_dataset
from opencood.data.perturb.fog import LIGHT, Fog, channel_response, soft_returns
from opencood.data.perturb.snow import Snow, flake_table
from opencood.errors import ConfigError

OVERLAP = (0.9, 1.0)


def wall(distance: float, intensity: float = 0.5, count: int = 400) -> np.ndarray:
    """(N, 4) points that a spinning sensor sees on a wall across x."""
    angle = np.linspace(-0.6, 0.6, count)
    points = np.stack([np.full(count, distance), distance * np.tan(angle), 0 * angle, np.full(count, intensity)], 1)
    return points.astype(np.float32)


def ranges(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, :3].astype(np.float64), axis=1)


# Fog


def test_a_wall_in_fog_fades_as_the_law_of_attenuation_says() -> None:
    """Equation (2): the way to the wall and back costs exp(-2 alpha R); a wall brighter than the fog stays."""
    points = wall(15)
    seen, is_soft = Fog(visibility=100).returns(points)
    assert not is_soft.any()
    np.testing.assert_array_equal(seen[:, :3], points[:, :3])
    np.testing.assert_allclose(seen[:, 3], 0.5 * np.exp(-2 * math.log(20) / 100 * ranges(points)), rtol=1e-6)


def test_a_case_by_hand() -> None:
    """MOR = 50 m: alpha = 2.995732 / 50 = 0.0599146 / m, beta = 0.046 / 50 = 9.2e-4 / m.

    Target at 20 m with i = 0.8: exp(-2 * 0.0599146 * 20) = exp(-2.3965857) = 0.0910282; 0.8 of it is 0.0728226.
    A pulse so short (0.001 ns) that it is a point: sin^2 integrates to tau = 1e-12 s, 1 / r^2 exp(-2 alpha r) xi(r)
    is largest at R_2 = 1 m: I = 1e-12 * exp(-0.1198293) = 8.8707e-13 s. With Gamma = 1e-10, at 60 m with i = 0.8:
    soft = 0.8 * 3600 * 9.2e-4 / (1e-10 / pi) * 8.8707e-13 = 0.073840, hard = 0.8 * exp(-7.189757) = 6.0341e-4.
    """
    fog = Fog(visibility=50, pulse_ns=0.001, reflectivity=1e-10)
    assert fog.attenuation == pytest.approx(0.0599146, abs=1e-7) and fog.backscatter == pytest.approx(9.2e-4)
    points = np.array([[20, 0, 0, 0.8], [0, -60, 0, 0.8]], np.float32)
    seen, is_soft = fog.returns(points)
    assert is_soft.tolist() == [False, True]
    assert seen[0] == pytest.approx([20, 0, 0, 0.0728226], abs=1e-6)
    assert seen[1] == pytest.approx([0, -1.0, 0, 0.073840], rel=3e-3, abs=1e-7)


def test_the_integral_is_that_of_plain_quadrature() -> None:
    """Equation (3) at single ranges, sample by sample."""
    attenuation, pulse = 0.03, 20e-9
    table = soft_returns(attenuation, pulse, OVERLAP)
    steps = 4000
    plain = []
    for distance in table.ranges:
        times = (np.arange(steps) + 0.5) * 2 * pulse / steps
        inside = channel_response(distance - LIGHT * times / 2, attenuation, OVERLAP)
        plain.append(np.sum(np.sin(np.pi * times / 2 / pulse) ** 2 * inside) * 2 * pulse / steps)
    for upto in (1, 20, 40, 100, 500):
        assert table.strongest[upto - 1] == pytest.approx(max(plain[:upto]), rel=2e-3, abs=1e-13)
        assert table.place[upto - 1] == pytest.approx(table.ranges[int(np.argmax(plain[:upto]))], abs=0.11)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(20, 600))
def test_fog_answers_only_where_it_outshines_the_target(seed: int, visibility: float) -> None:
    points = np.random.default_rng(seed).uniform([-90, -90, -3, 0.01], [90, 90, 2, 1], (300, 4)).astype(np.float32)
    fog = Fog(visibility)
    seen, is_soft = fog.returns(points)
    before, after = ranges(points), ranges(seen)
    hard = points[:, 3] * np.exp(-2 * fog.attenuation * before)
    assert len(seen) == len(points) and np.isfinite(seen).all()
    assert (seen[:, 3] >= hard * (1 - 1e-5)).all() and (seen[:, 3] <= points[:, 3] + 1e-7).all(), "intensity falls"
    np.testing.assert_allclose(seen[~is_soft, 3], hard[~is_soft], rtol=1e-5, atol=1e-9)
    assert (seen[is_soft, 3] > hard[is_soft]).all()
    assert (after[is_soft] < before[is_soft] + 1e-4).all(), "the fog lies before the target"
    direction = seen[:, :3] / after[:, None], points[:, :3] / before[:, None]
    np.testing.assert_allclose(*direction, atol=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(20, 500), st.floats(1.01, 4))
def test_better_visibility_shows_more(seed: int, visibility: float, factor: float) -> None:
    points = np.random.default_rng(seed).uniform([-90, -90, -3, 0.1], [90, 90, 2, 1], (300, 4)).astype(np.float32)
    (dense, soft_dense), (thin, soft_thin) = Fog(visibility).returns(points), Fog(visibility * factor).returns(points)
    assert (soft_thin <= soft_dense).all(), "what the fog hides in thin fog it hides in dense fog"
    assert (dense[~soft_dense, 3] <= thin[~soft_dense, 3] + 1e-7).all()


def test_what_is_ours_in_fog() -> None:
    """Soft returns may scatter between sensor and target, faint returns may get lost; neither happens unasked."""
    points = wall(70, count=2000)
    plain, is_soft = Fog(30).returns(points)
    np.testing.assert_array_equal(Fog(30).change(points, np.random.default_rng(0)), plain)
    assert is_soft.all() and ranges(plain).std() < 1e-5
    scattered = ranges(Fog(30, scatter=1.5).change(points, np.random.default_rng(0)))
    assert scattered.std() == pytest.approx(1.5, rel=0.1) and scattered.mean() == pytest.approx(
        ranges(plain).mean(), abs=0.2
    )
    assert scattered.min() >= 0.9 - 1e-6
    near = np.concatenate([wall(8), wall(25), wall(25, intensity=0.001)])
    kept = Fog(50, faintest=0.05).change(near, np.random.default_rng(0))
    assert ranges(kept).min() < 10 and (kept[:, 3] < 0.05).sum() == 400, "what was faint before is not lost to the fog"


# Snow


def test_a_wall_in_snow_fades_as_the_law_of_attenuation_says() -> None:
    """Equation (8) by hand, S = 1 mm/h, flakes of 100 kg/m^3: pi * 10^(2/3) * 2500 / 2.29^3 * 1e-6 = 3.0356e-3 / m."""
    snow, points = Snow(rate=1.0), wall(30, count=3000)
    assert snow.attenuation == pytest.approx(3.0356e-3, rel=1e-4)
    seen, is_flake = snow.returns(points, np.random.default_rng(0))
    assert 0 < is_flake.mean() < 0.1
    expected = 0.5 * np.exp(-2 * 3.0356e-3 * ranges(points))
    np.testing.assert_allclose(seen[~is_flake, 3], expected[~is_flake], rtol=1e-4)
    np.testing.assert_array_equal(seen[~is_flake, :3], points[~is_flake, :3])


def test_flakes_are_those_of_drawing_every_single_one() -> None:
    """The slow twin of equation (11): all flakes of many beams drawn one by one, the strongest return reported."""
    snow, distance, beams, intensity = Snow(rate=1.5, faintest=0.03), 20.0, 4000, 0.4
    random = np.random.default_rng(1)
    number, slope = snow.spectrum
    volume = math.pi / 12 * snow.divergence**2 * distance**3
    places = []
    for flakes in random.poisson(number / slope * volume, beams):
        r = distance * random.random(flakes) ** (1 / 3)
        diameter = snow.growth * random.exponential(1 / slope, flakes)
        lit = np.minimum(1, (diameter / (snow.divergence * r * 1000)) ** 2)
        strength = snow.reflectivity * lit * channel_response(r, snow.attenuation, snow.overlap)
        strength[strength * r**2 < snow.faintest] = 0
        if flakes and strength.max() > intensity * math.exp(-2 * snow.attenuation * distance) / distance**2:
            places.append(r[strength.argmax()])
    points = np.tile(np.array([[distance, 0, 0, intensity]], np.float32), (20_000, 1))
    seen, is_flake = snow.returns(points, random)
    found = ranges(seen[is_flake])
    assert is_flake.mean() == pytest.approx(len(places) / beams, abs=0.01)
    assert found.mean() == pytest.approx(np.mean(places), abs=0.5)
    assert np.quantile(found, 0.8) == pytest.approx(np.quantile(places, 0.8), abs=0.8)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.1, 5), st.sampled_from([1.0, 255.0]))
def test_snow_answers_only_where_it_outshines_the_target(seed: int, rate: float, scale: float) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform([-90, -90, -3, 0], [90, 90, 2, 1], (300, 4)).astype(np.float32)
    points[0, 3] = 1
    points[:, 3] *= scale
    snow = Snow(rate)
    seen, is_flake = snow.returns(points, random)
    before, after = ranges(points), ranges(seen)
    hard = points[:, 3] * np.exp(-2 * snow.attenuation * before)
    np.testing.assert_allclose(seen[~is_flake, 3], hard[~is_flake], rtol=1e-5, atol=1e-7)
    assert (after[is_flake] <= before[is_flake] + 1e-3).all()
    power_of_flake, power_of_target = (seen[:, 3] / after**2)[is_flake], (hard / before**2)[is_flake]
    assert (power_of_flake >= power_of_target * 0.9).all(), "up to the steps of the table"
    assert np.isfinite(seen).all() and seen[:, 3].max() <= scale


def test_more_snow_hides_more() -> None:
    points = np.concatenate([wall(40, count=4000), wall(80, count=4000)])
    rates = (0.1, 0.5, 1.0, 2.5)
    found = [Snow(rate).returns(points, np.random.default_rng(3)) for rate in rates]
    hidden = [is_flake.mean() for _, is_flake in found]
    assert hidden == sorted(hidden) and hidden[0] < hidden[-1]
    brightness = [seen[~is_flake, 3].mean() for seen, is_flake in found]
    assert brightness == sorted(brightness, reverse=True)
    counts = flake_table(Snow(1.0)).counts
    assert (np.diff(counts, axis=0) >= 0).all() and (np.diff(counts, axis=1) >= 0).all()


def test_clouds_without_intensity_lose_points_too() -> None:
    points = wall(60, intensity=0.0, count=4000)
    seen, is_flake = Snow(2.5).returns(points, np.random.default_rng(0))
    assert is_flake.any() and not seen[:, 3].any()
    assert Fog(20).returns(points)[1].any()


@pytest.mark.parametrize("weather", [Fog(), Snow()])
def test_an_empty_cloud_stays_empty(weather: Any) -> None:
    assert weather.change(np.zeros((0, 4), np.float32), np.random.default_rng(0)).shape == (0, 4)
    origin = np.zeros((1, 4), np.float32)
    assert np.isfinite(weather.change(origin, np.random.default_rng(0))).all()


@pytest.mark.parametrize(
    ("kind", "arguments"), [(Fog, {"visibility": 0}), (Fog, {"reflectivity": 0}), (Snow, {"rate": -1})]
)
def test_impossible_weather_is_refused(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        kind(**arguments)
    with pytest.raises(ConfigError, match="faintest"):
        kind(faintest=-0.1)
    for overlap in ((2, 1), (1,)):
        with pytest.raises(ConfigError, match="overlap: expected two growing ranges"):
            kind(overlap=overlap)


@pytest.mark.parametrize("name", ["fog", "snow"])
def test_every_reading_of_a_cloud_gives_the_same_weather(
    folder: Callable[..., Path], hypes: Callable[..., Any], name: str
) -> None:
    root = folder(points=4000)
    clear, disturbed = (
        build_dataset(hypes(root, **extra), train=False).frame(0)
        for extra in ({}, {"perturb": {name: {"visibility": 30} if name == "fog" else {"rate": 5.0}}})
    )
    for before, after in zip(clear.agents, disturbed.agents, strict=True):
        first, again = after.lidar.read(), after.lidar.read()
        np.testing.assert_array_equal(first, again)
        assert first.shape == before.lidar.read().shape and not np.array_equal(first, before.lidar.read())
