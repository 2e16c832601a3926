"""Late agents: how late, and what of them is old."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.perturb.delay import Delay, build_delay
from opencood.errors import ConfigError
from tests.unit.data.conftest import cloud, metadata_of, pcd_bytes

STAMPS = ("000000", "000002", "000004", "000006")
SPEED = 2.0  # metres a stamp, of agent 641 and of object 7


def noise(overhead: float, **args: Any) -> dict[str, Any]:
    quiet = {"pos_std": 0.0, "rot_std": 0.0, "pos_mean": 0, "rot_mean": 0}
    return {
        "add_noise": True,
        "args": quiet,
        "add_async_noise": True,
        "async_args": {"async_mode": "sim", "async_method": "fixed", "async_overhead": overhead} | args,
    }


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """A scenario in which agent 641 and object 7 drive along x, and every cloud is another one."""
    for number, stamp in enumerate(STAMPS):
        objects = {7: (104.0 + SPEED * number, 55.0, 0.8, 20.0), 8: (97.0, 47.0, 0.7, -100.0)}
        poses = {"1045": [100.0, 50.0, 1.9, 0.0, 30.0, 0.0], "641": [102.0 + SPEED * number, 52.0, 1.9, 0.0, 75.0, 0.0]}
        for agent, pose in poses.items():
            place = tmp_path / "data" / "s" / agent
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{stamp}.yaml").write_text(yaml.safe_dump(metadata_of(agent, pose, objects)))
            (place / f"{stamp}.pcd").write_bytes(pcd_bytes(cloud(300, seed=int(agent) + number)))
    return tmp_path / "data"


def frame(hypes: Callable[..., Any], root: Path, index: int, **changes: Any) -> Frame:
    return build_dataset(hypes(root, **changes), train=False).frame(index)


@pytest.mark.parametrize(("index", "age"), [(0, 0), (1, 1), (3, 2)])
def test_the_whole_observation_is_old_but_the_objects_are_those_of_now(
    moving: Path, hypes: Callable[..., Any], index: int, age: int
) -> None:
    now = frame(hypes, moving, index)
    late = frame(hypes, moving, index, noise_setting=noise(200), parity="fixed")
    then = frame(hypes, moving, index - age)
    assert [agent.delay for agent in late.agents] == [0, age], "no older than the first stamp"
    assert late.ego.lidar.path == now.ego.lidar.path
    other = late.agents[1]
    assert other.lidar.path == then.agents[1].lidar.path
    np.testing.assert_array_equal(other.lidar_pose, then.agents[1].lidar_pose)
    np.testing.assert_array_equal(other.lidar_pose_clean, then.agents[1].lidar_pose)
    np.testing.assert_array_equal(other.objects.corners, now.agents[1].objects.corners)
    assert other.visibility is not None
    np.testing.assert_array_equal(other.visibility.pose, now.agents[1].lidar_pose)


def test_published_delay_moves_the_pose_only(moving: Path, hypes: Callable[..., Any]) -> None:
    now, then = frame(hypes, moving, 3), frame(hypes, moving, 2)
    late = frame(hypes, moving, 3, noise_setting=noise(100), parity="published").agents[1]
    np.testing.assert_array_equal(late.lidar_pose, then.agents[1].lidar_pose)
    assert late.lidar.path == now.agents[1].lidar.path


@pytest.mark.parametrize("method", ["intermediate", "late", "early"])
@pytest.mark.parametrize("parity", ["fixed", "published"])
def test_the_ground_truth_is_that_of_now(moving: Path, hypes: Callable[..., Any], method: str, parity: str) -> None:
    plain, late = (
        build_dataset(hypes(moving, method, parity=parity, **extra), train=False)
        for extra in ({}, {"noise_setting": noise(100)})
    )
    wanted, found = (data.post_processor.generate_gt_bbx(data.collate_batch_test([data[3]])) for data in (plain, late))
    order = [set_[:, 0, 0].argsort() for set_ in (wanted, found)]
    np.testing.assert_allclose(found[order[1]], wanted[order[0]], atol=1e-4)


@given(st.integers(0, 10_000), st.floats(0, 500), st.floats(0, 300), st.floats(0, 10))
def test_drawn_delays_stay_in_their_bounds(seed: int, overhead: float, backbone: float, size: float) -> None:
    draws = Draws.keyed(seed)
    drawn = Delay("sim", overhead, "random").frames(draws)
    assert drawn == 0 if overhead == 0 else 1 <= drawn <= (overhead + 100) // 100
    real = Delay("real", overhead, backbone_delay=backbone, data_size=size, transmission_speed=20).frames(draws)
    sending = size / 20 * 1000 + backbone
    assert sending // 100 <= real <= (overhead + sending) // 100


def test_delays_depend_on_seed_and_epoch_alone(moving: Path, hypes: Callable[..., Any]) -> None:
    content = hypes(moving, noise_setting=noise(300, async_method="random"))

    def ages(epoch: int) -> list[int]:
        dataset = build_dataset(content, train=True)
        dataset.reinitialize(epoch)
        return [agent.delay for index in (3, 1, 2, 3) for agent in dataset.frame(index).agents]

    assert ages(1) == ages(1)
    assert len({tuple(ages(epoch)) for epoch in range(6)}) > 1


def test_the_older_form_of_the_setting(moving: Path, hypes: Callable[..., Any]) -> None:
    """It delays everything, whatever the parity."""
    late = frame(hypes, moving, 3, wild_setting={"async": True, "async_overhead": 100}).agents[1]
    then = frame(hypes, moving, 2).agents[1]
    assert late.delay == 1 and late.lidar.path == then.lidar.path
    assert frame(hypes, moving, 3, wild_setting={"async": False, "async_overhead": 100}).agents[1].delay == 0


def test_settings_of_delay() -> None:
    assert build_delay(None) is None
    assert build_delay(noise(100) | {"add_async_noise": False}) is None
    assert build_delay(noise(100) | {"add_noise": False}) is None
    assert build_delay(noise(60)) == Delay("sim", 60)
    assert Delay("sim", 60).frames(Draws.keyed(0)) == 0, "less than a frame"
    for args, message in (({}, "async_args: missing"), ({"async_mode": "reel"}, "Did you mean 'real'")):
        with pytest.raises(ConfigError, match=message):
            build_delay(noise(100) | {"async_args": args})
    with pytest.raises(ConfigError, match="transmission_speed: 0"):
        build_delay(noise(100, async_mode="real", transmission_speed=0))
