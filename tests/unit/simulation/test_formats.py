"""Every format there and back: what a reader finds in the files is the simulated world, in the format's own axes."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opencood.data.draws import Draws
from opencood.data.readers.base import ReaderSettings
from opencood.errors import StorageError
from opencood.geometry.poses import transform_points, x_to_world
from opencood.registry import REGISTRY
from opencood.simulation.presets import PRESETS, SPLITS, scenario_plans
from opencood.simulation.recording import AgentView, CameraView, Frame, ego_first
from opencood.simulation.scenario import Scenario

TOLERANCE = 1e-3
MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])
HYPES = {"flavor": "heal", "parity": "fixed"}


@dataclass(frozen=True)
class Case:
    """One format: what a scenario of it holds, and where its readers start."""

    format: str
    agents: int
    roadside: int
    split: str = "{split}"
    right_handed: bool = False
    cameras: int = 0
    names: tuple[str, ...] | None = None


CASES = [
    Case("opv2v", 3, 1, cameras=4),
    Case("v2xset", 2, 1, cameras=4),
    Case("v2xreal", 2, 2, cameras=4, names=("1", "2", "-1", "-2")),
    Case("v2v4real", 2, 0, right_handed=True, names=("0", "1")),
    Case("v2xsim", 3, 1, "v2xsim_infos_{split}.pkl", right_handed=True, names=("1", "2", "3", "4")),
    Case("dairv2x", 1, 1, "{split}.json", right_handed=True, cameras=1, names=("0", "1")),
]
SHORT = {"validate": "val"}


@functools.cache
def film_of(agents: int, roadside: int) -> tuple[tuple[Frame, ...], ...]:
    """A recording of every split, with pictures of noise taken from tilted cameras."""
    preset = replace(PRESETS["mini"], scenarios=(1, 1, 1), agents=(agents, agents), roadside=roadside)
    films = [list(Scenario(plan).frames()) for plan in scenario_plans(preset, seed=4)]
    return tuple(tuple(with_cameras(frame) for frame in film) for film in films)


def plans_of(case: Case):
    preset = replace(PRESETS["mini"], scenarios=(1, 1, 1), agents=(case.agents,) * 2, roadside=case.roadside)
    return scenario_plans(preset, seed=4)


def with_cameras(frame: Frame) -> Frame:
    return replace(frame, agents=tuple(replace(view, cameras=cameras_of(view)) for view in frame.agents))


def cameras_of(view: AgentView) -> tuple[CameraView, ...]:
    rng = np.random.default_rng(abs(view.agent_id))
    x, y, z, heading = view.sensor_pose
    cameras = []
    for turn in (0, 100, -100, 180):
        pose = np.array([x + 0.5, y - 0.3, z - 0.4, 1.5, np.degrees(heading) + turn, -4.0])
        intrinsic = np.array([[30.0, 0, 20.5], [0, 31, 14.5], [0, 0, 1]])
        image = np.repeat(np.repeat(rng.integers(0, 255, (3, 4, 3), np.uint8), 10, 0), 10, 1)
        cameras.append(CameraView(image, np.full((30, 40), 7.3, np.float32), pose, intrinsic))
    return tuple(cameras)


def write(case: Case, root: Path, films) -> None:
    writer = REGISTRY.build("writer", case.format, root=root)
    written = [writer.write(plan, film, {"preset": "mini"}) for plan, film in zip(plans_of(case), films, strict=True)]
    writer.finish(written, seed=0)
    assert {path.name for path in root.iterdir()} - {".partial"} == set(writer.owns)


def read(case: Case, root: Path, split: str = "test", **settings):
    name = SHORT.get(split, split) if "." in case.split else split
    reader = REGISTRY.get("reader", case.format).target(
        ReaderSettings(
            root / case.split.format(split=name), "root_dir", train=False, max_cav=7, hypes=HYPES, **settings
        )
    )
    reader.replan(Draws.keyed(0))
    return [reader.frame(number) for number in range(len(reader))]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.format)
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def films(case):
    return film_of(case.agents, case.roadside)


@pytest.fixture(scope="module")
def root(case, films, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(case.format)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENCOOD_CACHE", str(folder.parent / "cache"))
        write(case, folder, films)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))


def to_ue(case: Case, points: np.ndarray) -> np.ndarray:
    """Points of the format's world in the simulator's."""
    return points * [1, -1, 1] if case.right_handed else points


def lidar_to_ue(case: Case, pose: np.ndarray) -> np.ndarray:
    """(4, 4) from the format's LiDAR frame to the simulator's world."""
    return (MIRROR if case.right_handed else np.eye(4)) @ x_to_world(pose)


def sensor_to_world(view: AgentView) -> np.ndarray:
    x, y, z, heading = view.sensor_pose
    return x_to_world([x, y, z, 0, np.degrees(heading), 0])


def world_points(view: AgentView) -> np.ndarray:
    return transform_points(view.points.astype(np.float64), sensor_to_world(view))


def true_corners(frame: Frame) -> np.ndarray:
    """(M, 8, 3) corners of all objects in the simulator's world, in any order of corners."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 2)])
    local = signs * frame.objects.half_sizes[:, None]
    x, y, heading = frame.objects.poses.T[:, :, None]
    return np.stack(
        [
            x + local[..., 0] * np.cos(heading) - local[..., 1] * np.sin(heading),
            y + local[..., 0] * np.sin(heading) + local[..., 1] * np.cos(heading),
            local[..., 2],
        ],
        axis=-1,
    )


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


def match(corners: np.ndarray, frame: Frame) -> np.ndarray:
    """Row of the world's object that each box is, all its corners within the tolerance."""
    if not len(corners):
        return np.zeros(0, int)
    truth = true_corners(frame)
    rows = np.linalg.norm(truth.mean(1)[None] - corners.mean(1)[:, None], axis=-1).argmin(1)
    apart = np.linalg.norm(truth[rows][:, None] - corners[:, :, None], axis=-1)
    assert (apart.min(1) < TOLERANCE).all() and (apart.min(2) < TOLERANCE).all()
    return rows


def seen_rows(view: AgentView, frame: Frame, pedestrians: bool = False) -> set[int]:
    wanted = (frame.objects.is_vehicle | pedestrians) & (view.hits > 0) & (frame.objects.ids != view.agent_id)
    return set(np.flatnonzero(wanted).tolist())


def count_inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Points of each box, by its own three edges: corner 3 to 0 is its length, 0 to 1 its width, 0 to 4 its height."""
    counts = []
    for box in corners:
        edges = np.stack([box[0] - box[3], box[1] - box[0], box[4] - box[0]])
        sizes = np.linalg.norm(edges, axis=1)
        place = (points[:, :3] - box.mean(0)) @ (edges / sizes[:, None]).T
        counts.append((np.abs(place) < sizes / 2 + 0.1).all(1).sum())
    return np.array(counts)


def test_every_split_has_its_frames(case, films, root):
    for split, film in zip(SPLITS, films, strict=True):
        frames = read(case, root, split)
        assert len(frames) == len(film)
        for frame, recorded in zip(frames, film, strict=True):
            names = [agent.id for agent in frame.agents]
            assert sorted(names) == sorted(case.names or [str(view.agent_id) for view in recorded.agents])
            if case.format != "dairv2x":
                assert frame.stamp.rpartition("_")[2].isdigit()


def test_poses_and_points_are_those_of_the_world(case, films, root):
    for split, film in zip(SPLITS, films, strict=True):
        for frame, recorded in zip(read(case, root, split), film, strict=True):
            for agent, view in zip(in_recorded_order(case, frame), ego_first(recorded.agents), strict=True):
                place = lidar_to_ue(case, agent.lidar_pose)
                assert place[:2, 3] == pytest.approx(view.sensor_pose[:2], abs=TOLERANCE)
                facing = [np.cos(view.sensor_pose[3]), np.sin(view.sensor_pose[3]), 0]
                assert place[:3, 0] == pytest.approx(facing, abs=1e-6)
                assert place[:3, 2] == pytest.approx([0, 0, 1], abs=1e-6)
                if not (case.format == "dairv2x" and agent.roadside):
                    assert place[2, 3] == pytest.approx(view.sensor_pose[2], abs=TOLERANCE)

                cloud, truth = agent.lidar.read(), world_points(view)
                assert_close(transform_points(cloud[:, :3].astype(np.float64), place), truth[:, :3])
                assert_close(cloud[:, 3], truth[:, 3], 0.5 / 255 + 1e-6)


def in_recorded_order(case: Case, frame):
    """Cars in the order of test sets, then roadside units; names are the format's."""
    if case.format in ("v2xsim", "dairv2x"):
        return frame.agents
    return sorted(frame.agents, key=lambda agent: (agent.roadside, agent.id))


def test_left_and_right_are_those_of_the_format(case, films, root):
    """What is on the left of an agent has a positive y in right-handed axes, and a negative one in UE's."""
    frame, recorded = read(case, root, own_labels=True)[0], films[-1][0]
    sides = []
    for agent, view in zip(in_recorded_order(case, frame), ego_first(recorded.agents), strict=True):
        rows = match(to_ue(case, agent.objects.corners), recorded)
        x, y, _ = recorded.objects.poses[rows].T
        heading = view.sensor_pose[3]
        to_the_right = (y - view.sensor_pose[1]) * np.cos(heading) - (x - view.sensor_pose[0]) * np.sin(heading)
        local = transform_points(agent.objects.corners, np.linalg.inv(x_to_world(agent.lidar_pose)))
        assert_close(local.mean(1)[:, 1], to_the_right * (-1 if case.right_handed else 1))
        sides += np.sign(to_the_right).tolist()
    assert {-1, 1} <= set(sides)


def test_boxes_are_those_of_the_world_and_hold_the_points(case, films, root):
    for frame, recorded in zip(read(case, root, own_labels=True), films[-1], strict=True):
        for agent, view in zip(in_recorded_order(case, frame), ego_first(recorded.agents), strict=True):
            corners = to_ue(case, agent.objects.corners)
            rows = match(corners, recorded)
            assert set(rows.tolist()) == seen_rows(view, recorded, pedestrians=case.format == "v2xreal")
            place = x_to_world(agent.lidar_pose)
            cloud = transform_points(agent.lidar.read().astype(np.float64), place)
            vehicles = recorded.objects.is_vehicle[rows]
            counted = count_inside(cloud, agent.objects.corners)[vehicles]
            hits = view.hits[rows][vehicles]
            # Margins of the boxes take in some ground.
            assert (counted >= hits).mean() > 0.9 and counted.sum() >= 0.95 * hits.sum()


def test_together_the_agents_list_everything_once(case, films, root):
    for frame, recorded in zip(read(case, root), films[-1], strict=True):
        by_id: dict[int, int] = {}
        for agent in frame.agents:
            for number, row in zip(
                agent.objects.ids.tolist(), match(to_ue(case, agent.objects.corners), recorded).tolist(), strict=True
            ):
                assert by_id.setdefault(number, row) == row, "one id, one object"
        wanted = set().union(*(seen_rows(view, recorded, case.format == "v2xreal") for view in recorded.agents))
        if case.format == "dairv2x":  # the cooperative list leaves the vehicle itself out
            wanted -= {row for row in wanted if recorded.objects.ids[row] == recorded.agents[0].agent_id}
        assert sorted(by_id.values()) == sorted(wanted), "one object, one id"


def test_cameras_project_as_they_were_placed(case, films, root):
    if not case.cameras:
        pytest.skip("the format has no cameras")
    frame, recorded = read(case, root, cameras=True)[0], films[-1][0]
    for agent, view in zip(in_recorded_order(case, frame), ego_first(recorded.agents), strict=True):
        assert len(agent.cameras) == case.cameras
        cloud = agent.lidar.read()[:, :3].astype(np.float64)
        for camera, taken in zip(agent.cameras, view.cameras, strict=False):
            seen = transform_points(cloud, np.linalg.inv(camera.to_lidar))
            forward, right, up = transform_points(world_points(view)[:, :3], np.linalg.inv(x_to_world(taken.pose))).T
            assert_close(seen, np.stack([right, -up, forward], -1))
            assert camera.intrinsic == pytest.approx(taken.intrinsic)
            picture = np.asarray(Image.open(camera.image).convert("RGB"), int)
            assert_close(picture[5::10, 5::10], taken.image[5::10, 5::10], 12)


def test_a_recording_without_pictures_is_written(case, films, tmp_path):
    bare = [
        [replace(frame, agents=tuple(replace(view, cameras=()) for view in frame.agents)) for frame in film]
        for film in films
    ]
    write(case, tmp_path, bare)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg")]
    for agent in read(case, tmp_path)[0].agents:
        assert len(agent.lidar.read()) > 1000


def test_an_interrupted_scenario_leaves_nothing(case, films, tmp_path):
    def broken():
        yield films[0][0]
        raise OSError(28, "No space left on device")

    writer = REGISTRY.build("writer", case.format, root=tmp_path)
    with pytest.raises(StorageError, match="No space left"):
        writer.write(plans_of(case)[0], broken(), {})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_classes_of_v2x_real():
    case = next(case for case in CASES if case.format == "v2xreal")
    films = film_of(case.agents, case.roadside)
    described = REGISTRY.get("writer", "v2xreal").target.format.describe
    found = set()
    for frame in (frame for film in films for frame in film):
        for view in frame.agents:
            for number, entry in described(view, frame)["vehicles"].items():
                kind = frame.objects.kinds[frame.objects.ids.tolist().index(number)]
                found.add((kind, entry["obj_type"]))
    names = dict(found)
    assert len(names) == len(found)
    assert {names[kind] for kind in names} >= {"Car", "Pedestrian"}
    assert names.get("truck", "Truck") == "Truck" and names.get("van", "Van") == "Van"


def test_the_roadside_calibration_of_dair_is_off_by_what_it_tells(tmp_path):
    case = next(case for case in CASES if case.format == "dairv2x")
    films = film_of(case.agents, case.roadside)
    write(case, tmp_path, films)
    entries = json.loads((tmp_path / "cooperative" / "data_info.json").read_text())
    assert len({entry["vehicle_image_path"] for entry in entries}) == len(entries) == sum(map(len, films))
    for entry, frame in zip(entries, (frame for film in films for frame in film), strict=True):
        name = Path(entry["infrastructure_image_path"]).stem
        file = tmp_path / "infrastructure-side" / "calib" / "virtuallidar_to_world" / f"{name}.json"
        x, y = np.ravel(json.loads(file.read_text())["translation"])[:2]
        told = entry["system_error_offset"]
        true = frame.agents[-1].sensor_pose
        assert [x + told["delta_x"], y + told["delta_y"]] == pytest.approx([true[0], -true[1]], abs=1e-9)
        assert 0 < np.hypot(*told.values()) < 1.2


def test_the_front_lists_of_dair_are_what_the_cameras_see(tmp_path):
    case = next(case for case in CASES if case.format == "dairv2x")
    films = film_of(case.agents, case.roadside)
    write(case, tmp_path, films)
    fewer = 0
    for together in (False, True):
        for frame, recorded in zip(
            read(case, tmp_path, own_labels=not together, camera_labels=True), films[-1], strict=True
        ):
            vehicle = frame.ego
            assert vehicle.camera_objects is not None
            everything = set(match(to_ue(case, vehicle.objects.corners), recorded).tolist())
            front = set(match(to_ue(case, vehicle.camera_objects.corners), recorded).tolist())
            assert front <= everything
            fewer += len(everything - front)
            if not together:
                x, y, heading = recorded.objects.poses[sorted(front)].T
                car = recorded.agents[0].sensor_pose
                assert (((x - car[0]) * np.cos(car[3]) + (y - car[1]) * np.sin(car[3])) > 0).all()
    assert fewer > 0


def test_v2v4real_links_what_both_cars_list():
    case = next(case for case in CASES if case.format == "v2v4real")
    described = REGISTRY.get("writer", "v2v4real").target.format.describe
    linked = []
    for frame in (frame for film in film_of(case.agents, case.roadside) for frame in film):
        lists = [described(view, frame)["vehicles"] for view in frame.agents]
        common = set(lists[0]) & set(lists[1])
        for entries in lists:
            assert {number for number, entry in entries.items() if entry["ass_id"] != -1} == common
        linked.append(len(common))
    assert max(linked) > 0
