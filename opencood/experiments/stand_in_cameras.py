"""What simulated frames lack, to step any model: noise as pictures, with the metadata of four cameras; 32 channels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SIZE = (200, 150)  # of the pictures on disk; readers resize them to what the configuration names
FOCAL, CENTRE = 335.6, (400.0, 300.0)  # of the 800 x 600 pictures with 100 degrees that OPV2V has
YAWS = (0, 100, -100, 180)  # degrees from the LiDAR's heading: front, right, left, back
INTRINSIC = [[FOCAL, 0.0, CENTRE[0]], [0.0, FOCAL, CENTRE[1]], [0.0, 0.0, 1.0]]
VISIBILITY_SIDE = 256
FEWER_CHANNELS = (16, 32)


def complete_frames(root: Path, seed: int = 0) -> None:
    """Give every frame below an OPV2V-format folder four cameras with colours, depths and a visibility map.

    Its cloud also serves as the one with fewer channels.
    """
    rng = np.random.default_rng(seed)
    for path in sorted(root.rglob("[0-9]*.yaml")):
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**content, **_cameras(content["lidar_pose"])}))
        stem = path.with_suffix("")
        for number in range(len(YAWS)):
            _noise(rng, 3).save(f"{stem}_camera{number}.png")
            _noise(rng, 1).save(f"{stem}_depth{number}.png")
        for channels in FEWER_CHANNELS:
            shutil.copyfile(f"{stem}.pcd", f"{stem}_{channels}.pcd")
        Image.new("RGB", (VISIBILITY_SIDE, VISIBILITY_SIDE), "white").save(f"{stem}_bev_visibility.png")


def _cameras(lidar_pose: list[float]) -> dict[str, Any]:
    x, y, z, roll, yaw, pitch = lidar_pose
    return {
        f"camera{number}": {"cords": [x, y, z, roll, yaw + turn, pitch], "intrinsic": INTRINSIC}
        for number, turn in enumerate(YAWS)
    }


def _noise(rng: np.random.Generator, channels: int) -> Image.Image:
    shape = (SIZE[1], SIZE[0], 3) if channels == 3 else (SIZE[1], SIZE[0])
    return Image.fromarray(rng.integers(1, 256, shape, dtype=np.uint8))
