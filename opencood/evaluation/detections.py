"""What a detector said about each frame of a split, kept so that every figure can be computed again."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from opencood.errors import DataError
from opencood.evaluation.files import write_atomically

FORMAT = 1
_CLASS_ARRAYS = ("classes", "ground_truth_classes")  # only where there are several classes
_ARRAYS = ("boxes", "scores", "box_counts", "ground_truth", "ground_truth_counts", "message_bytes", "names", "protocol")


@dataclass(frozen=True)
class FrameDetections:
    """Boxes of one frame, all in the ego LiDAR frame, metres.

    Attributes:
        boxes: (N, 8, 3) float32 corners in the order of the post-processor (descending score).
        scores: (N,) float32.
        ground_truth: (M, 8, 3) float32 corners, in any order.
        message_bytes: length of all messages that other agents sent to the ego for this frame; None if not metered.
        name: which frame it is, for example ``scenario/time stamp`` or the index.
        classes, ground_truth_classes: (N,) and (M,) class of every box, counted from 1; None where there is only one.
    """

    boxes: np.ndarray
    scores: np.ndarray
    ground_truth: np.ndarray
    message_bytes: int | None = None
    name: str = ""
    classes: np.ndarray | None = None
    ground_truth_classes: np.ndarray | None = None

    @classmethod
    def of(cls, boxes: Any, scores: Any, ground_truth: Any, **about: Any) -> FrameDetections:
        """Build from tensors or arrays; None for boxes and scores means that nothing was detected.

        Where there are several classes, scores are (N, 2) score and class, and the ground truth is a pair of corners
        and classes.
        """
        if not isinstance(ground_truth, tuple):
            return cls(_corners(boxes), _flat(scores), _corners(ground_truth), **about)
        corners, labels = ground_truth
        scored = np.zeros((0, 2), np.float32) if scores is None else _host(scores).reshape(-1, 2)
        classes, labels = scored[:, 1].astype(np.int64), _flat(labels).astype(np.int64)
        return cls(
            _corners(boxes), scored[:, 0], _corners(corners), classes=classes, ground_truth_classes=labels, **about
        )

    def of_classes(self, labels: Sequence[int]) -> FrameDetections:
        """What concerns some classes; a frame without classes is returned as it is."""
        if self.classes is None or self.ground_truth_classes is None:
            return self
        return self.take(np.isin(self.classes, labels), np.isin(self.ground_truth_classes, labels))

    def take(self, found: np.ndarray, true: np.ndarray) -> FrameDetections:
        """Some of the detections, (N,) bool, against some of the ground truth, (M,) bool."""
        classes, labels = self.classes, self.ground_truth_classes
        return replace(
            self,
            boxes=self.boxes[found],
            scores=self.scores[found],
            classes=None if classes is None else classes[found],
            ground_truth=self.ground_truth[true],
            ground_truth_classes=None if labels is None else labels[true],
        )


@dataclass(frozen=True)
class DetectionSet:
    """The detections of a whole split with the protocol they were made under."""

    frames: tuple[FrameDetections, ...]
    protocol: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[FrameDetections]:
        return iter(self.frames)

    @property
    def ground_truth_count(self) -> int:
        """Number of ground-truth boxes of all frames."""
        return sum(len(frame.ground_truth) for frame in self.frames)

    @property
    def detection_count(self) -> int:
        """Number of detected boxes of all frames."""
        return sum(len(frame.boxes) for frame in self.frames)

    @property
    def labels(self) -> tuple[int, ...]:
        """Classes that occur, ascending; empty where there is only one."""
        lists = [a for frame in self.frames for a in (frame.classes, frame.ground_truth_classes) if a is not None]
        return tuple(np.unique(np.concatenate(lists)).tolist()) if lists else ()

    @property
    def class_names(self) -> dict[int, str]:
        """Name of every class that the detector knows or that occurs, by its number; empty where there is only one."""
        if not (labels := set(self.labels)):
            return {}
        names = dict(enumerate(map(str, self.protocol.get("classes") or []), start=1))
        everything = {label: names.get(label, f"class {label}") for label in sorted(labels | set(names))}
        chosen = self.protocol.get("evaluated_classes")
        return {label: name for label, name in everything.items() if chosen is None or name in chosen}

    def of_classes(self, labels: Sequence[int]) -> DetectionSet:
        """What concerns some classes."""
        return replace(self, frames=tuple(frame.of_classes(labels) for frame in self.frames))

    def of_class(self, label: int) -> DetectionSet:
        """What concerns one class."""
        return self.of_classes([label])

    def megabits_per_frame(self) -> float | None:
        """Mean size of a frame's messages in megabits (10^6 bits); None when they were not metered."""
        sizes = [frame.message_bytes for frame in self.frames if frame.message_bytes is not None]
        return sum(sizes) * 8 / 1e6 / len(sizes) if sizes else None

    def against(self, other: DetectionSet) -> DetectionSet:
        """The same detections with the ground truth of another run over the same frames.

        Published samples differ in it: late fusion lists what lies in the range of the agent that sees it, the others
        what lies in the ego's. A comparison between methods needs one truth for all.

        Raises:
            DataError: the runs do not hold the same frames in the same order.
        """
        if [frame.name for frame in self.frames] != [frame.name for frame in other.frames]:
            raise DataError("detections: the two runs hold different frames, so they cannot share a ground truth.")
        pairs = zip(self.frames, other.frames, strict=True)
        return replace(
            self,
            frames=tuple(
                replace(one, ground_truth=two.ground_truth, ground_truth_classes=two.ground_truth_classes)
                for one, two in pairs
            ),
        )

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` without pickled objects, atomically."""
        unmetered = -1
        arrays: dict[str, Any] = {
            "boxes": _stack(frame.boxes for frame in self.frames),
            "scores": np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in self.frames)]),
            "box_counts": np.array([len(frame.boxes) for frame in self.frames], np.int64),
            "ground_truth": _stack(frame.ground_truth for frame in self.frames),
            "ground_truth_counts": np.array([len(frame.ground_truth) for frame in self.frames], np.int64),
            "message_bytes": np.array(
                [unmetered if f.message_bytes is None else f.message_bytes for f in self.frames], np.int64
            ),
            "names": np.array([frame.name for frame in self.frames], np.str_),
            "protocol": np.array(json.dumps(self.protocol)),
            "format": np.array(FORMAT),
        }
        if self.frames and all(frame.classes is not None for frame in self.frames):
            for name in _CLASS_ARRAYS:
                arrays[name] = np.concatenate([getattr(frame, name) for frame in self.frames])
        return write_atomically(Path(path), lambda handle: np.savez_compressed(handle, **arrays))

    @classmethod
    def load(cls, path: str | Path) -> DetectionSet:
        """Read a file written by ``save``.

        Raises:
            DataError: the file is missing, truncated or was not written by ``save``.
        """
        arrays = _read(Path(path))
        sizes = [int(size) if size >= 0 else None for size in arrays["message_bytes"]]
        names = arrays["names"].tolist()
        found, true = (np.cumsum(arrays[key])[:-1] for key in ("box_counts", "ground_truth_counts"))

        def by_frame(key: str, ends: np.ndarray) -> list[Any]:
            return np.split(arrays[key], ends)[: len(names)] if key in arrays else [None] * len(names)

        boxes, scores, truth = by_frame("boxes", found), by_frame("scores", found), by_frame("ground_truth", true)
        classes = (by_frame(key, ends) for key, ends in zip(_CLASS_ARRAYS, (found, true), strict=True))
        frames = tuple(map(FrameDetections, boxes, scores, truth, sizes, names, *classes))
        return cls(frames, _protocol(arrays["protocol"], path))


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"{path}: no such file. Write it with `inference.py --save_detections`.")
    try:
        with zipfile.ZipFile(path):  # NumPy reads other files as well, as something else
            pass
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable detection file ({error}). Write it again.") from error
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"{path}: not a detection file, it lacks {', '.join(missing)}.")
    frames = {len(arrays[name]) for name in ("box_counts", "ground_truth_counts", "message_bytes", "names")}
    totals = {len(arrays[name]) for name in ("boxes", "scores", "classes") if name in arrays}
    totals.add(int(arrays["box_counts"].sum()))
    truths = {len(arrays[name]) for name in ("ground_truth", "ground_truth_classes") if name in arrays}
    truths.add(int(arrays["ground_truth_counts"].sum()))
    shapes = {arrays["boxes"].shape[1:], arrays["ground_truth"].shape[1:]}
    if not len(frames) == len(totals) == len(truths) == 1 or shapes != {(8, 3)}:
        raise DataError(f"{path}: numbers of frames, boxes, scores and counts differ; the file is damaged.")
    return arrays


def _protocol(stored: np.ndarray, path: str | Path) -> dict[str, Any]:
    try:
        protocol = json.loads(str(stored))
    except ValueError as error:
        raise DataError(f"{path}: its protocol is no JSON ({error}); the file is damaged.") from error
    if not isinstance(protocol, dict):
        raise DataError(f"{path}: its protocol is no map; the file is damaged.")
    return protocol


def _host(values: Any) -> np.ndarray:
    detached = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.asarray(detached, dtype=np.float32)


def _corners(boxes: Any) -> np.ndarray:
    return np.zeros((0, 8, 3), np.float32) if boxes is None else _host(boxes).reshape(-1, 8, 3)


def _flat(scores: Any) -> np.ndarray:
    return np.zeros(0, np.float32) if scores is None else _host(scores).reshape(-1)


def _stack(boxes: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros((0, 8, 3), np.float32), *boxes])
