import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from opencood.data.pcd import read_points
from opencood.errors import StorageError
from opencood.registry import REGISTRY
from opencood.simulation.presets import PRESETS, scenario_plans
from opencood.simulation.scenario import Scenario
from opencood.simulation.writers.clouds import pcd_bytes

PLAN = scenario_plans(replace(PRESETS["mini"], roadside=True), seed=1)[0]


@pytest.fixture(scope="module")
def film():
    return list(Scenario(PLAN).frames())


@pytest.fixture
def writer(tmp_path):
    return REGISTRY.build("writer", "opv2v", root=tmp_path)


def test_folders_are_those_of_opv2v(writer, film, tmp_path):
    written = writer.write(PLAN, film, {"preset": "mini"})

    scenario = tmp_path / "train" / PLAN.name
    assert sorted(p.name for p in scenario.iterdir()) == sorted([*written.agents, "data_protocol.yaml"])
    assert "-1" in written.agents and len(written.agents) == len(film[0].agents)
    for agent in written.agents:
        names = sorted(p.name for p in (scenario / agent).iterdir())
        assert len(names) == 2 * len(film)
        assert all(len(Path(name).stem) == 6 and Path(name).stem.isdigit() for name in names)


def test_metadata_describes_what_the_agent_saw(writer, film, tmp_path):
    writer.write(PLAN, film, {})
    frame = film[0]
    for view in frame.agents:
        file = sorted((tmp_path / "train" / PLAN.name / str(view.agent_id)).glob("*.yaml"))[0]
        content = yaml.safe_load(file.read_text())

        x, y, z, roll, yaw, pitch = content["lidar_pose"]
        assert [x, y, z] == pytest.approx(view.sensor_pose[:3], abs=1e-5) and (roll, pitch) == (0, 0)
        assert -180 <= yaw < 180 and np.cos(np.radians(yaw)) == pytest.approx(np.cos(view.sensor_pose[3]), abs=1e-6)
        assert content["ego_speed"] == pytest.approx(3.6 * view.speed, abs=1e-5)
        assert {len(content["true_ego_pos"]), len(content["predicted_ego_pos"])} == {6}

        seen = {int(i) for i, hits in zip(frame.objects.ids, view.hits, strict=True) if hits}
        vehicles = set(frame.objects.ids[frame.objects.is_vehicle].tolist())
        assert set(content["vehicles"]) == (seen & vehicles) - {view.agent_id}
        for number, vehicle in content["vehicles"].items():
            row = frame.objects.ids.tolist().index(number)
            centre = np.add(vehicle["location"], vehicle["center"])
            half = frame.objects.half_sizes[row]
            assert centre == pytest.approx([*frame.objects.poses[row, :2], half[2]], abs=1e-5)
            assert vehicle["extent"] == pytest.approx(half, abs=1e-5)
            assert vehicle["speed"] == pytest.approx(3.6 * frame.objects.speed[row], abs=1e-5)
            assert len(vehicle["angle"]) == 3


def test_clouds_come_back_with_intensity_in_256_steps(writer, film, tmp_path):
    writer.write(PLAN, film, {})
    view = film[0].agents[0]
    file = sorted((tmp_path / "train" / PLAN.name / str(view.agent_id)).glob("*.pcd"))[0]

    points = read_points(file)
    assert (points[:, :3] == view.points[:, :3]).all()
    assert points[:, 3] == pytest.approx(view.points[:, 3], abs=0.5 / 255 + 1e-6)


def test_an_empty_cloud_is_a_legal_file(tmp_path):
    path = tmp_path / "empty.pcd"
    path.write_bytes(pcd_bytes(np.zeros((0, 4), np.float32)))
    assert b"POINTS 0\n" in path.read_bytes()


def test_an_interrupted_scenario_leaves_nothing(writer, film, tmp_path):
    def broken():
        yield film[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(PLAN, broken(), {})
    assert not (tmp_path / "train").exists()
    assert not list(tmp_path.rglob("*.pcd"))


def test_a_full_disk_is_one_clear_error(writer, film, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=f"{PLAN.name}.*No space left"):
        writer.write(PLAN, film, {})
    assert not (tmp_path / "train").exists()


def test_assignments_name_every_agent(writer, film, tmp_path):
    written = writer.write(PLAN, film, {})
    writer.finish([written], seed=0)

    for name in ("opv2v_4modality.json", "opv2v_4modality_in_order.json"):
        assignment = json.loads((tmp_path / name).read_text())
        assert set(assignment) == {PLAN.name}
        assert sorted(assignment[PLAN.name]) == sorted(written.agents)
        assert list(assignment[PLAN.name])[-1] == "-1"
        assert set(assignment[PLAN.name].values()) <= {"m1", "m2", "m3", "m4"}
