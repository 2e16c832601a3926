"""Camera pictures of one agent, augmented, with the matrices that lift them into space (spec data.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Camera
from opencood.data.pictures import read_pixels
from opencood.data.resize import resized
from opencood.errors import ConfigError, DataError
from opencood.geometry.jit import compiled

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

    def applied(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels (h, w, C) of ``apply`` for those of a picture (H, W, C = 1 or 3), three times faster."""
        changed = _cropped(resized(pixels, self.size), self.crop)
        if self.flip:
            changed = changed[:, ::-1]
        if not self.rotate % 360:
            return changed
        turned = Image.fromarray(np.ascontiguousarray(changed if changed.shape[2] > 1 else changed[:, :, 0]))
        return np.asarray(turned.rotate(self.rotate)).reshape(changed.shape)

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
) -> dict[str, NDArray[Any]]:
    """Return the camera entries of one agent, first axis = cameras.

    ``imgs`` (k, fH, fW, 3 or 4) uint8 colours and, with ``depth``, metres, as ``image_planes`` takes them; all others
    float32: ``intrins`` (k, 3, 3) of the original picture; ``extrinsics`` (k, 4, 4) camera (OpenCV axes) to the agent's
    LiDAR, with ``rots`` and ``trans`` its parts; ``post_rots`` (k, 3, 3) and ``post_trans`` (k, 3) original to
    transformed pixels.

    Raises:
        DataError: a camera or picture is missing or broken.
    """
    missing = [number for number in augmentation.cameras if number >= len(agent.cameras)]
    if missing:
        raise DataError(f"agent {agent.id}: data_aug_conf.cams names camera{missing[0]}, the metadata file does not.")
    rows = [_one(agent.cameras[k], augmentation, depth, train, draws) for k in augmentation.cameras]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


@dataclass(frozen=True)
class PendingPictures:
    """``imgs`` of a batch as bytes.

    Attributes:
        pictures: (n, k, H, W, C) uint8, C = 3 colours or 4 with depth.
    """

    pictures: torch.Tensor
    names: ClassVar[tuple[str, ...]] = ("imgs",)

    def make(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """``imgs`` (n, k, C, H, W) float32: colours ``normalised``, a fourth channel as it is."""
        if torch.device(device).type == "cpu":
            return {"imgs": torch.from_numpy(image_planes(self.pictures.numpy()))}
        return {"imgs": looked_up(self.pictures.to(device))}


def looked_up(pictures: torch.Tensor) -> torch.Tensor:
    """``image_planes`` on the device of the pictures (n, k, H, W, C)."""
    planes = pictures.movedim(-1, 2)
    table = torch.from_numpy(_VALUE_OF_BYTE).to(pictures.device)
    channel = torch.arange(planes.shape[2], device=pictures.device)[:, None, None]
    return table[channel, planes.int()]


def image_planes(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, k, C, H, W) float32 of (n, k, H, W, C) bytes, each written once to its place in the batch."""
    count, cameras, height, width, channels = pictures.shape
    planes = np.empty((count, cameras, channels, height, width), np.float32)
    for target, picture in zip(planes, pictures, strict=True):
        _write_planes(picture, _VALUE_OF_BYTE, target)
    return planes


@compiled
def _write_planes(pictures: NDArray, values: NDArray, planes: NDArray) -> None:
    for camera in range(pictures.shape[0]):
        for y in range(pictures.shape[1]):
            for channel in range(pictures.shape[3]):
                for x in range(pictures.shape[2]):
                    planes[camera, channel, y, x] = values[channel, pictures[camera, y, x, channel]]


def _one(camera: Camera, augmentation: ImageAugmentation, depth: bool, train: bool, draws: Draws) -> dict[str, Any]:
    transform = augmentation.draw(train, draws)
    channels = [transform.applied(read_pixels(camera.image, "RGB"))]
    if depth:
        if camera.depth is None:
            raise DataError(f"{camera.image}: this data set has no depth; remove depth from input_source.")
        channels.append(transform.applied(read_pixels(camera.depth, "L")))
    rot, shift = transform.homography()
    post_rot, post_tran = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    post_rot[:2, :2], post_tran[:2] = rot, shift
    return {
        "imgs": np.concatenate(channels, axis=2) if depth else channels[0],
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


# (4, 256): what becomes of a byte of red, green, blue and depth.
_VALUE_OF_BYTE = np.concatenate(
    [
        normalised(Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 1, 3))))[:, 0],
        np.arange(256, dtype=np.float32)[None],
    ]
)


def _cropped(pixels: NDArray[np.uint8], crop: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The crop (left, top, right, bottom) of (H, W, C) pixels, black outside of them."""
    (left, top, right, bottom), (height, width) = crop, pixels.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return pixels[top:bottom, left:right]
    target = np.zeros((bottom - top, right - left, pixels.shape[2]), np.uint8)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        target[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[rows, columns]
    return target
