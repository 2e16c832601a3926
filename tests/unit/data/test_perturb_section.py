"""The section ``perturb``: what it builds, when it applies, who draws what, and how old observations become."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opencood.config.perturb import with_perturbations
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.perturb.localisation import LocalisationError
from opencood.data.perturb.pose import PoseNoise
from opencood.data.perturb.settings import active, build_perturbations, describe
from opencood.data.perturb.timing import Age, Asynchrony, Lateness, MessageDelay
from opencood.data.stamps import Recording
from opencood.errors import ConfigError
from opencood.experiments.build import build_dataset as build_with_plugins
from opencood.registry import REGISTRY
from tests.unit.data.conftest import cloud, metadata_of, pcd_bytes

Hypes = Callable[..., Any]
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "coopre" / "loc_noise_seed20"
SPEED = 2.0  # metres a frame, of agents 641 and 650
QUIET = {"add_noise": True, "args": {"pos_std": 0.0, "rot_std": 0.0}}


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """Six frames in which two of three agents drive along x, and every cloud is another one."""
    for number in range(6):
        x = 102.0 + SPEED * number
        poses = {"1045": [100.0, 50.0, 1.9, 0, 30, 0], "641": [x, 52.0, 1.9, 0, 75, 0], "650": [x, 48.0, 1.9, 0, 5, 0]}
        objects = {7: (104.0 + SPEED * number, 55.0, 0.8, 20.0), 8: (97.0, 47.0, 0.7, -100.0)}
        for agent, pose in poses.items():
            place = tmp_path / "data" / "s" / agent
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{2 * number:06d}.yaml").write_text(yaml.safe_dump(metadata_of(agent, pose, objects)))
            (place / f"{2 * number:06d}.pcd").write_bytes(pcd_bytes(cloud(300, seed=int(agent) + number)))
    return tmp_path / "data"


@pytest.fixture
def frames(moving: Path, hypes: Hypes) -> Callable[..., list[Frame]]:
    """``frames(section, ...)`` -> all frames of a split under a section ``perturb``."""

    def make(section: Any = None, train: bool = False, epoch: int = 0, **changes: Any) -> list[Frame]:
        dataset = build_dataset(hypes(moving, parity="fixed", perturb=section, **changes), train=train)
        dataset.reinitialize(epoch)
        return [dataset.frame(index) for index in range(len(dataset))]

    return make


def read_frame(agent: Any) -> int:
    """Number of the frame that an agent's cloud comes from."""
    return int(agent.lidar.path.stem) // 2


def pose_frame(pose: Any) -> int:
    return round((pose[0] - 102.0) / SPEED)


# Old observations


@pytest.mark.parametrize(("milliseconds", "age"), [(0, 0), (1, 1), (100, 1), (100.5, 2), (250, 3), (5000, 5)])
def test_a_message_is_the_newest_that_had_left(
    frames: Callable[..., list[Frame]], milliseconds: float, age: int
) -> None:
    for index, frame in enumerate(frames({"delay": {"milliseconds": milliseconds}})):
        assert frame.ego.delay == 0 and read_frame(frame.ego) == index
        for agent in frame.agents[1:]:
            expected = max(0, index - age)
            assert read_frame(agent) == pose_frame(agent.lidar_pose) == pose_frame(agent.lidar_pose_clean) == expected
            assert agent.delay == index - expected


def test_pose_only_delays_keep_current_clouds(frames: Callable[..., list[Frame]]) -> None:
    late = frames({"delay": {"milliseconds": 200, "pose_only": True}})[4].agents[1]
    assert (read_frame(late), pose_frame(late.lidar_pose), pose_frame(late.lidar_pose_clean)) == (4, 2, 4)


def test_sensors_that_are_not_stamped_lie_about_their_place(frames: Callable[..., list[Frame]]) -> None:
    section = {"delay": {"milliseconds": 100}, "asynchrony": {"milliseconds": 90, "stamped": False}}
    for agent in frames(section)[5].agents[1:]:
        assert (read_frame(agent), pose_frame(agent.lidar_pose), pose_frame(agent.lidar_pose_clean)) == (3, 4, 3)
    section["asynchrony"]["stamped"] = True
    for agent in frames(section)[5].agents[1:]:
        assert (read_frame(agent), pose_frame(agent.lidar_pose)) == (3, 3)


def test_clocks_run_apart_by_a_constant_or_jitter(frames: Callable[..., list[Frame]]) -> None:
    def ages(**arguments: Any) -> dict[str, list[int]]:
        epochs = [frames({"asynchrony": {"milliseconds": 300, **arguments}}, epoch=epoch)[3:] for epoch in (0, 1)]
        return {name: [frame.agents[place].delay for run in epochs for frame in run] for name, place in
                (("ego", 0), ("641", 1), ("650", 2))}  # fmt: skip

    constant, jitter = ages(), ages(per="frame")
    assert constant["ego"] == jitter["ego"] == [0] * 6
    assert all(len(set(constant[name])) == 1 for name in ("641", "650")), "the same in all frames and epochs"
    assert len(set(jitter["641"] + jitter["650"])) > 1


@given(st.floats(0, 900), st.floats(0, 900), st.booleans(), st.booleans(), st.integers(0, 99))
def test_ages_add_up(delay: float, offset: float, random: bool, stamped: bool, seed: int) -> None:
    lateness = Lateness(MessageDelay(delay, random), Asynchrony(offset, "frame", stamped), Draws.keyed(seed))
    for age in lateness.ages("s", "1", 20, Draws.keyed(seed, 1)):
        assert 0 <= age.pose <= age.sensor <= delay + offset
        assert random or age.pose >= delay
        assert age.pose == age.sensor or not stamped


def test_age_in_frames() -> None:
    assert [Age(ms, ms).frames for ms in (0, 0.1, 100, 100.1, 300)] == [0, 1, 1, 2, 3]


def test_recordings() -> None:
    recording = Recording([0.0, 0.1, 0.2, 0.3, 50.0, 50.1, 3.0])
    assert [recording.earlier(3, age) for age in (0, 50, 100, 150, 300, 900)] == [3, 2, 2, 1, 0, 0]
    assert [recording.earlier(frame, 900) for frame in (4, 5, 6)] == [4, 4, 6]
    assert Recording([1.0, 1.1, 1.2], ["a", "b", "b"]).earlier(2, 500) == 1
    with pytest.raises(ValueError, match="finite"):
        Recording([0.0, float("nan")])


# Who is heard


def test_agents_drop_out_but_never_the_ego(frames: Callable[..., list[Frame]]) -> None:
    for frame in frames({"drop_agents": {"probability": 1.0}}):
        assert [agent.id for agent in frame.agents] == ["1045"]
        assert [agent.id for agent in frame.unheard] == ["641", "650"]
    assert all(len(frame.agents) == 3 for frame in frames({"drop_agents": {"probability": 0.0}}))


def test_drop_out_has_the_asked_frequency(frames: Callable[..., list[Frame]]) -> None:
    section = {"drop_agents": {"probability": 0.3}}
    heard = [len(frame.agents) - 1 for epoch in range(40) for frame in frames(section, epoch=epoch)]
    assert np.mean(heard) / 2 == pytest.approx(0.7, abs=0.06)


def test_a_broken_radio_stays_broken(frames: Callable[..., list[Frame]]) -> None:
    seen = set()
    for seed in range(12):
        runs = [frames({"drop_agents": {"probability": 0.5, "per": "run"}}, epoch=epoch, seed=seed) for epoch in (0, 3)]
        heard = {tuple(agent.id for agent in frame.agents) for run in runs for frame in run}
        assert len(heard) == 1
        seen |= heard
    assert len(seen) > 2, "another run, another radio"


# Poses


def test_turns_of_von_mises_are_spread_as_asked() -> None:
    noise, draws = PoseNoise(0.3, 4.0, rot_mean=1.0, distribution="von_mises"), Draws.keyed(0)
    drawn = np.stack([noise.draw(draws) for _ in range(4000)])
    assert drawn[:, 4].std() == pytest.approx(4.0, rel=0.05) and drawn[:, 4].mean() == pytest.approx(1.0, abs=0.2)
    assert drawn[:, 0].std() == pytest.approx(0.3, rel=0.05) and not drawn[:, [2, 3, 5]].any()
    still = PoseNoise(distribution="von_mises").draw(draws)
    wide = np.array([PoseNoise(0, 90, distribution="von_mises").draw(draws)[4] for _ in range(2000)])
    assert not still.any() and np.abs(wide).max() <= 180, "on the circle"


def test_the_ego_may_know_its_place(frames: Callable[..., list[Frame]]) -> None:
    for ego, known in ((True, False), (False, True)):
        frame = frames({"pose_noise": {"pos_std": 0.5, "rot_std": 1.0, "ego": ego}})[0]
        assert np.array_equal(frame.ego.lidar_pose, frame.ego.lidar_pose_clean) is known
        assert not np.array_equal(frame.agents[1].lidar_pose, frame.agents[1].lidar_pose_clean)


@pytest.mark.parametrize("parity", ["published", "fixed"])
def test_the_older_form_of_pose_error(moving: Path, hypes: Hypes, parity: str) -> None:
    """Published: one offset for all agents and frames, which reaches intermediate fusion only (coopre.md 11.4)."""
    wild = {"loc_err": True, "xyz_std": 0.2, "ryp_std": 0.2, "seed": 20}

    def offsets(method: str, train: bool = False) -> np.ndarray:
        dataset = build_dataset(hypes(moving, method, parity=parity, wild_setting=wild), train=train)
        found = [dataset.frame(index) for index in range(3)]
        assert all(np.array_equal(frame.ego.lidar_pose, frame.ego.lidar_pose_clean) for frame in found)
        return np.array([a.lidar_pose - a.lidar_pose_clean for frame in found for a in frame.agents[1:]])

    tested = offsets("intermediate")
    if parity == "published":
        np.testing.assert_allclose(tested, [[0.176779, 0.039173, 0.071507, 0, -0.216967, 0]] * 6, atol=1e-6)
        assert not offsets("late").any() and not offsets("early").any()
    else:
        assert len(np.unique(tested[:, 0])) == 6 and offsets("late").any() and offsets("early").any()
    assert len(np.unique(offsets("intermediate", train=True)[:, 0])) == 6, "training always draws"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="golden cases are not here")
def test_the_constant_offset_is_the_published_one() -> None:
    arrays = np.load(GOLDEN / "case.npz")
    for name in (name for name in arrays if name.startswith("out/")):
        xyz, ryp = map(float, name.removeprefix("out/std_").split("_"))
        drawn = LocalisationError(xyz, ryp).draw(Draws(np.random.RandomState(20), None))
        np.testing.assert_allclose(arrays["in/pose"] + drawn, arrays[name], atol=1e-5)


# Who draws what


def test_no_disturbance_changes_what_another_draws(frames: Callable[..., list[Frame]]) -> None:
    noise = {"pose_noise": {"pos_std": 0.5, "rot_std": 1.0}}
    others = {
        "delay": {"milliseconds": 300, "random": True}, "drop_agents": {"probability": 0.5}, "snow": {"rate": 3.0},
        "asynchrony": {"milliseconds": 50, "per": "frame"},
    }  # fmt: skip

    def drawn(section: Any) -> dict[tuple[int, str], np.ndarray]:
        return {
            (frame.index, agent.id): agent.lidar_pose - agent.lidar_pose_clean
            for frame in frames(section)
            for agent in frame.agents
        }

    alone, together = drawn(noise), drawn(others | noise)
    assert len(together) < len(alone), "somebody is unheard"
    assert all(np.allclose(alone[key], together[key], atol=1e-12) for key in together)
    heard = [[agent.id for agent in frame.agents] for frame in frames({"drop_agents": others["drop_agents"]})]
    assert heard == [[agent.id for agent in frame.agents] for frame in frames(noise | others)]
    ages = [{a.id: a.delay for a in frame.agents} for frame in frames({"delay": others["delay"]})]
    assert ages == [{a.id: a.delay for a in frame.agents} for frame in frames(noise | {"delay": others["delay"]})]


def test_the_points_of_an_undisturbed_sensor_stay_in_their_order(moving: Path, hypes: Hypes) -> None:
    """Published pose noise draws first and so changes every later draw; the section draws elsewhere."""
    section = {"pose_noise": {"pos_std": 0.5}, "fog": {"visibility": 1e9}}
    plain, disturbed = (
        build_dataset(hypes(moving, parity="fixed", **extra), train=False)[2] for extra in ({}, {"perturb": section})
    )
    for one, other in zip(plain["ego"]["parts"], disturbed["ego"]["parts"], strict=True):
        first, second = one["processed_lidar"], other["processed_lidar"]
        np.testing.assert_allclose(first["voxel_features"], second["voxel_features"], rtol=1e-5)


def test_children_of_generators() -> None:
    draws = Draws.keyed(3, "frame", 7)
    first = draws.child("a").numpy.random_sample()
    draws.numpy.random_sample(100)
    assert draws.child("a").numpy.random_sample() == first != draws.child("b").numpy.random_sample()
    given_from_outside = Draws(np.random.RandomState(0), None)
    assert given_from_outside.child("a").numpy.random_sample() != given_from_outside.child("a").numpy.random_sample()


# The section itself


def test_when_a_disturbance_applies() -> None:
    section = {"fog": {"visibility": 50, "when": "train"}, "snow": None, "drop_agents": False,
               "delay": {"milliseconds": 100, "when": "test"}}  # fmt: skip
    assert active(section, train=True) == {"fog": {"visibility": 50}, "snow": {}}
    assert active(section, train=False) == {"snow": {}, "delay": {"milliseconds": 100}}
    assert describe(section, train=False) == "snow(), delay(milliseconds=100)"
    assert active(None, train=True) == {}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"fogg": {}}, "unknown perturbation 'fogg'. Did you mean 'fog'"),
        ({"fog": {"when": "tests"}}, "perturb.fog.when: 'tests' .* Did you mean 'test'"),
        ({"fog": 30}, "perturb.fog: expected a map"),
        (["fog"], "perturb: expected a map"),
        ({"fog": {"visibility": "bad"}}, "perturb.fog.visibility: expected a number"),
        ({"delay": {}}, "missing key.* 'milliseconds'"),
        ({"delay": {"milliseconds": -1}}, "perturb.delay.milliseconds"),
        ({"asynchrony": {"per": "agents"}}, "Did you mean 'agent'"),
        ({"drop_agents": {"probability": 2}}, "from 0 to 1"),
        ({"drop_agents": {"probability": 0.5, "per": "runs"}}, "Did you mean 'run'"),
        ({"pose_noise": {"distribution": "normal"}}, "none of gaussian, laplace, von_mises"),
        ({"pose_noise": {"pos_std": -1}}, "cannot be below 0"),
        ({"delay": {"milliseconds": 1, "pose_only": True}, "asynchrony": {}}, "choose one"),
    ],
)
def test_wrong_sections_are_explained(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_perturbations(section, train=False, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_setting": QUIET, "perturb": {"pose_noise": {}}}, "noise_setting.add_noise and perturb: pose noise"),
        ({"noise_setting": QUIET, "wild_setting": {"loc_err": True}}, "wild_setting.loc_err: pose noise"),
        (
            {"wild_setting": {"async": True}, "perturb": {"delay": {"milliseconds": 1}}},
            "wild_setting.async and perturb",
        ),
    ],
)
def test_nothing_is_asked_for_twice(moving: Path, hypes: Hypes, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_dataset(hypes(moving, **changes), train=False)


def test_the_command_line_replaces_by_name() -> None:
    configured = {"fog": {"visibility": 50, "when": "train"}, "snow": {}}
    asked = {"fog": {"when": "test"}}
    assert with_perturbations(configured, asked) == {"fog": {"when": "test"}, "snow": {}}
    assert with_perturbations(configured, asked | {"_replace_": True}) == asked
    assert with_perturbations(None, asked) == asked
    with pytest.raises(ConfigError, match="expected a map"):
        with_perturbations("fog", asked)


def test_the_examples_of_the_documentation(moving: Path, hypes: Hypes) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "perturbations.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    section = next(yaml.safe_load(text) for kind, text in blocks if kind == "yaml")["perturb"]
    assert set(active(section, train=True) | active(section, train=False)) == set(section) - {"snow"}
    build_dataset(hypes(moving, parity="fixed", perturb=section), train=True)[0]
    plugin = moving / "deaf.py"
    plugin.write_text(next(text for kind, text in blocks if kind == "python"))
    content = hypes(moving, perturb={"deaf_to_cars": {}}, plugins=[str(plugin)])
    frame = build_with_plugins(content, train=False).frame(0)
    assert len(frame.agents) == 1 and len(frame.unheard) == 2
    for name in REGISTRY.names("perturbation"):
        assert f"`{name}`" in page or name == "deaf_to_cars"
