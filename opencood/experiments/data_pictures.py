"""Pictures of a data set without any detector: frames from above, ways through scenarios, films of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opencood.config.loader import Hypes, load_yaml
from opencood.data.build import gt_range_of
from opencood.data.frame import Frame
from opencood.errors import DataError, StorageError
from opencood.experiments.build import build_dataset
from opencood.experiments.participants import clouds_in_ego
from opencood.experiments.pictures import agent_marks, is_left_handed
from opencood.geometry.boxes import project_corners
from opencood.geometry.poses import x_to_world
from opencood.visualization.bev import draw_bev
from opencood.visualization.paths import draw_paths
from opencood.visualization.scene import BevScene, extent_of

PICTURES = (".png", ".jpg", ".jpeg")
_ROOTS = {"train": "root_dir", "validate": "validate_dir", "test": "test_dir"}


def draw_frames(hypes_yaml: Path, out: Path, split: str, limit: int, agents: int | None = None) -> list[Path]:
    """One picture for each of some frames, spread over the split; ``agents``: points of so many only.

    Raises:
        ConfigError, DataError: the configuration is wrong, or the data are not there.
    """
    hypes = load_yaml(hypes_yaml)
    dataset = _dataset(hypes, split)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int))
    return [
        draw_bev(_scene(dataset.frame(int(index)), hypes, agents), out / f"scene_{index:05d}.png") for index in chosen
    ]


def draw_trajectories(hypes_yaml: Path, out: Path, split: str, limit: int) -> list[Path]:
    """One picture for each of the first scenarios: where its agents and objects go.

    Raises:
        ConfigError, DataError: the configuration is wrong, or the data are not there.
    """
    hypes = load_yaml(hypes_yaml)
    scenarios: dict[str, list[Frame]] = {}
    for frame in _frames(_dataset(hypes, split)):
        if frame.scenario not in scenarios and len(scenarios) == limit:
            break
        scenarios.setdefault(frame.scenario, []).append(frame)
    return [
        draw_paths(_agent_ways(frames), _object_ways(frames), out / f"ways_{number:03d}.png", name,
                   left_hand=is_left_handed(hypes))
        for number, (name, frames) in enumerate(scenarios.items())
    ]  # fmt: skip


def film(folder: Path, out: Path, rate: float) -> Path:
    """All pictures of a folder, by name, as one GIF of ``rate`` pictures per second.

    Raises:
        DataError: there is no picture.
        StorageError: the file cannot be written.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise DataError(f"{folder}: holds no pictures ({', '.join(PICTURES)}).")
    first, *others = (Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE) for file in files)
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        first.save(part, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{out}: the film cannot be written ({error.strerror or error}).") from error
    return out


def _dataset(hypes: Hypes, split: str) -> Any:
    root = hypes.get(_ROOTS[split])
    return build_dataset(hypes.replaced({**hypes, "validate_dir": root}), train=split == "train")


def _frames(dataset: Any) -> Iterator[Frame]:
    for index in range(len(dataset)):
        yield dataset.frame(index)


def _scene(frame: Frame, hypes: Mapping[str, Any], heard: int | None) -> BevScene:
    """A frame as seen from above, every object that anybody lists in the ego's frame."""
    agents = list(frame.agents)
    points, owners = clouds_in_ego(agents[:heard])
    to_ego = np.linalg.inv(x_to_world(agents[0].lidar_pose_clean))
    corners = np.concatenate([agent.objects.corners for agent in agents])
    _, first = np.unique(np.concatenate([agent.objects.ids for agent in agents]), return_index=True)
    return BevScene(
        extent=extent_of(list(gt_range_of(hypes))),
        points=points,
        predictions=np.zeros((0, 8, 3)),
        ground_truth=project_corners(corners[first], to_ego),
        agents=agent_marks(agents),
        point_agents=owners,
        left_hand=is_left_handed(hypes),
        title=frame.scenario,
        subtitle=f"time stamp {frame.stamp}",
        judged=False,
    )


def _agent_ways(frames: list[Frame]) -> dict[str, NDArray[np.float64]]:
    """Name -> (T, 2) positions in the world."""
    ways: dict[str, list[NDArray[np.float64]]] = {}
    for frame in frames:
        for agent in frame.agents:
            ways.setdefault(agent.id, []).append(agent.lidar_pose_clean[:2])
    return {name: np.stack(way) for name, way in ways.items()}


def _object_ways(frames: list[Frame]) -> list[NDArray[np.float64]]:
    """(T, 2) positions in the world of each object."""
    listed = [agent.objects for frame in frames for agent in frame.agents]
    ids = np.concatenate([objects.ids for objects in listed])
    centres = np.concatenate([objects.corners[:, :, :2].mean(axis=1) for objects in listed])
    order = np.argsort(ids, kind="stable")
    return np.split(centres[order], np.flatnonzero(np.diff(ids[order])) + 1)
