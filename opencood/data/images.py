"""Camera pictures of one agent, augmented, with the matrices that lift them into space (spec data.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Camera
from opencood.errors import ConfigError, DataError

_CAMERAS = ("camera0", "camera1", "camera2", "camera3")  # where data_aug_conf lists none
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@dataclass(frozen=True)
class ImageTransform:
    """One drawn picture transform: resize, crop, flip, turn. Sizes and crop in pixels.

    Attributes:
        resize: scale factor.
        size: (width, height) after resizing.
        crop: (left, top, right, bottom) in the resized picture; may reach outside, which is black.
        flip: mirror left and right.
        rotate: degrees.
    """

    resize: float
    size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool
    rotate: float

    def apply(self, picture: Image.Image) -> Image.Image:
        """Return the transformed picture."""
        changed = picture.resize(self.size).crop(self.crop)
        if self.flip:
            changed = changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return changed.rotate(self.rotate)

    def homography(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (2, 2) and (2,) float32 that map original pixels to transformed ones: ``rot @ pixel + shift``."""
        width, height = self.crop[2] - self.crop[0], self.crop[3] - self.crop[1]
        rot = np.eye(2, dtype=np.float32) * np.float32(self.resize)
        shift = -np.array(self.crop[:2], np.float32)
        if self.flip:
            mirror = np.diag(np.array([-1, 1], np.float32))
            rot, shift = mirror @ rot, mirror @ shift + np.array([width, 0], np.float32)
        angle = np.radians(self.rotate)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
        centre = np.array([width, height], np.float32) / 2
        return turn @ rot, (turn @ shift + centre - turn @ centre).astype(np.float32)


@dataclass(frozen=True)
class ImageAugmentation:
    """What ``data_aug_conf`` says about pictures.

    Attributes:
        source: (width, height) of the pictures on disk.
        final: (width, height) after the transform.
        resize_lim, bot_pct_lim, rot_lim: intervals drawn from in training (factor, share of the height, degrees).
        rand_flip: mirror half of the pictures in training.
        cameras: numbers of the cameras that are used.
    """

    source: tuple[int, int]
    final: tuple[int, int]
    resize_lim: tuple[float, float]
    bot_pct_lim: tuple[float, float]
    rot_lim: tuple[float, float]
    rand_flip: bool
    cameras: tuple[int, ...]

    def draw(self, train: bool, draws: Draws) -> ImageTransform:
        """Draw a transform (training), or return the fixed one of testing, which draws nothing."""
        (width, height), (final_width, final_height) = self.source, self.final
        resize = draws.numpy.uniform(*self.resize_lim) if train else max(final_height / height, final_width / width)
        size = int(width * resize), int(height * resize)
        bottom = draws.numpy.uniform(*self.bot_pct_lim) if train else np.mean(self.bot_pct_lim)
        top = int((1 - bottom) * size[1]) - final_height
        spare = max(0, size[0] - final_width)
        left = int(draws.numpy.uniform(0, spare) if train else spare / 2)
        flip = bool(train and self.rand_flip and draws.numpy.choice([0, 1]))
        rotate = float(draws.numpy.uniform(*self.rot_lim)) if train else 0.0
        crop = (left, top, left + final_width, top + final_height)
        return ImageTransform(resize, size, crop, flip, rotate)


def build_image_augmentation(conf: Mapping[str, Any], where: str) -> ImageAugmentation:
    """Build the picture settings of one ``data_aug_conf``.

    Raises:
        ConfigError: a key is missing.
    """
    needed = ("H", "W", "final_dim", "resize_lim", "bot_pct_lim", "rot_lim")
    missing = [key for key in needed if key not in conf]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}.")
    listed = conf.get("cams", _CAMERAS)
    names = listed[: conf.get("Ncams", len(listed))]
    return ImageAugmentation(
        source=(conf["W"], conf["H"]),
        final=(conf["final_dim"][1], conf["final_dim"][0]),
        resize_lim=tuple(conf["resize_lim"]),
        bot_pct_lim=tuple(conf["bot_pct_lim"]),
        rot_lim=tuple(conf["rot_lim"]),
        rand_flip=bool(conf.get("rand_flip", False)),
        cameras=tuple(int(str(name).removeprefix("camera")) for name in names),
    )


def camera_inputs(
    agent: Agent, augmentation: ImageAugmentation, *, depth: bool, train: bool, draws: Draws
) -> dict[str, NDArray[np.float32]]:
    """Return the camera entries of one agent, float32, first axis = cameras.

    ``imgs`` (k, 3 or 4, fH, fW) normalised colours and, with ``depth``, metres; ``intrins`` (k, 3, 3) of the original
    picture; ``extrinsics`` (k, 4, 4) camera (OpenCV axes) to the agent's LiDAR, with ``rots`` and ``trans`` its parts;
    ``post_rots`` (k, 3, 3) and ``post_trans`` (k, 3) original to transformed pixels.

    Raises:
        DataError: a camera or picture is missing or broken.
    """
    missing = [number for number in augmentation.cameras if number >= len(agent.cameras)]
    if missing:
        raise DataError(f"agent {agent.id}: data_aug_conf.cams names camera{missing[0]}, the metadata file does not.")
    rows = [_one(agent.cameras[k], augmentation, depth, train, draws) for k in augmentation.cameras]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _one(
    camera: Camera, augmentation: ImageAugmentation, depth: bool, train: bool, draws: Draws
) -> dict[str, NDArray[np.float32]]:
    transform = augmentation.draw(train, draws)
    channels = [normalised(transform.apply(read_picture(camera.image, "RGB")))]
    if depth:
        if camera.depth is None:
            raise DataError(f"{camera.image}: this data set has no depth; remove depth from input_source.")
        channels.append(np.asarray(transform.apply(read_picture(camera.depth, "L")), np.float32)[None])
    rot, shift = transform.homography()
    post_rot, post_tran = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    post_rot[:2, :2], post_tran[:2] = rot, shift
    return {
        "imgs": np.concatenate(channels),
        "intrins": camera.intrinsic.astype(np.float32),
        "extrinsics": camera.to_lidar,
        "rots": camera.to_lidar[:3, :3],
        "trans": camera.to_lidar[:3, 3],
        "post_rots": post_rot,
        "post_trans": post_tran,
    }


def normalised(picture: Image.Image) -> NDArray[np.float32]:
    """Return (3, H, W) float32 colours of an RGB picture with the mean and deviation of ImageNet removed."""
    channels = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
    return (channels - _MEAN) / _STD


def read_picture(path: Path, mode: str) -> Image.Image:
    """Return a decoded picture in a PIL mode (``RGB``, ``L``).

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert(mode)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        raise DataError(f"{path}: picture cannot be read ({error}); missing, truncated or corrupt file.") from error


def first_existing(places: Sequence[Path]) -> Path:
    """Return the first of several places that exists, else the first (so that the error names it)."""
    return next((place for place in places if place.exists()), places[0])
