"""How wrong poses are before and after correction by stored boxes (``tools/pose_graph_evaluate.py``, tools.md 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from opencood.config.loader import load_file
from opencood.data.draws import Draws
from opencood.data.perturb.box_alignment import alignment_options
from opencood.data.perturb.pose import PoseNoise
from opencood.data.stored_boxes import DetectedBoxes, StoredBoxes
from opencood.errors import ConfigError, DataError
from opencood.evaluation.files import write_yaml
from opencood.evaluation.tables import text_table
from opencood.geometry.alignment import AlignmentOptions, align_boxes
from opencood.geometry.poses import x1_to_x2
from opencood.visualization.charts import draw_curves

# The arguments of CoAlign's configurations.
PUBLISHED = {"landmark_SE2": True, "abandon_hard_cases": True, "drop_hard_boxes": True}
HEADER = ("poses", "mean m", "median m", "90 % m", "mean deg", "median deg", "90 % deg", "better")
NOISY, PLAIN, WEIGHTED = "noisy", "aligned, boxes alike", "aligned, by uncertainty"


@dataclass(frozen=True)
class PoseErrorOptions:
    """Arguments of ``tools/pose_graph_evaluate.py``.

    Attributes:
        boxes: file of ``pose_graph_pre_calc``.
        pos_std: noise of x and y of every agent but the ego, metres.
        rot_std: of its yaw, degrees.
        seed: of the noise; an agent's depends on (seed, frame, name) alone.
        hypes_yaml: file whose ``box_align.args`` are used; None: those of the published files.
        out: folder for the table and the picture; None: beside the boxes.
        limit: only the first so many frames.
    """

    boxes: Path
    pos_std: float = 0.2
    rot_std: float = 0.2
    seed: int = 100
    hypes_yaml: Path | None = None
    out: Path | None = None
    limit: int | None = None
    progress: bool = True


@dataclass(frozen=True)
class PoseErrors:
    """Errors of the pose of each collaborator relative to the ego, by variant of the poses.

    Attributes:
        metres: variant -> (M,).
        degrees: variant -> (M,).
        frames: number of frames with at least two agents.
        files: what was written.
    """

    metres: Mapping[str, NDArray[np.float64]]
    degrees: Mapping[str, NDArray[np.float64]]
    frames: int
    files: tuple[Path, ...] = ()

    def summary(self, variant: str) -> dict[str, float]:
        """The numbers of a row of the table; ``better``: share of collaborators nearer to the truth than with noise."""
        metres, degrees = self.metres[variant], self.degrees[variant]
        numbers = {
            f"{name}_{unit}": float(value)
            for unit, values in (("m", metres), ("deg", degrees))
            for name, value in (
                ("mean", values.mean()),
                ("median", np.median(values)),
                ("p90", np.percentile(values, 90)),
            )
        }
        return numbers | {"better": float((metres < self.metres[NOISY]).mean())}

    def lines(self) -> list[str]:
        """The table."""
        rows = []
        for variant in self.metres:
            *numbers, better = self.summary(variant).values()
            share = f"{better:.0%}" if variant != NOISY else ""
            rows.append([variant, *(f"{number:.3f}" for number in numbers), share])
        title = f"poses of {len(self.metres[NOISY])} collaborators in {self.frames} frames, relative to the ego"
        return [title, text_table(HEADER, rows)]


def evaluate_poses(options: PoseErrorOptions) -> PoseErrors:
    """Disturb the true poses that the file holds, correct them with its boxes, and compare.

    Raises:
        ConfigError: an argument of the correction is wrong.
        DataError: the file is missing or broken, tells no poses, or no frame has two agents.
    """
    stored = StoredBoxes(options.boxes)
    plain = _alignment(options, stored)
    variants = {PLAIN: replace(plain, use_uncertainty=False)}
    if _tells_uncertainty(stored):
        variants[WEIGHTED] = replace(plain, use_uncertainty=True)
    noise = PoseNoise(options.pos_std, options.rot_std)
    errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (NOISY, *variants)}
    frames, quiet = 0, None if options.progress else True
    for index, agents in tqdm(list(_frames(stored, options.limit)), "frames", disable=quiet):
        clean = _poses(options.boxes, index, agents)
        draws = Draws.keyed(options.seed, "pose", index)
        offsets = [noise.draw(draws.child(name)) for name in list(agents)[1:]]
        noisy = clean + np.stack([np.zeros(6), *offsets])
        corners, uncertainty = [a.corners for a in agents.values()], [a.uncertainty for a in agents.values()]
        errors[NOISY].append(_errors(noisy, clean))
        for name, chosen in variants.items():
            corrected = noisy.copy()
            corrected[:, [0, 1, 4]] = align_boxes(corners, noisy, uncertainty, chosen).poses
            errors[name].append(_errors(corrected, clean))
        frames += 1
    if not frames:
        raise DataError(f"{options.boxes}: no frame in which two agents are known; nothing to correct.")
    joined = {name: np.concatenate(found) for name, found in errors.items()}
    found = PoseErrors({n: e[:, 0] for n, e in joined.items()}, {n: e[:, 1] for n, e in joined.items()}, frames)
    return replace(found, files=_written(found, options, plain))


def _alignment(options: PoseErrorOptions, stored: StoredBoxes) -> AlignmentOptions:
    args: Any = PUBLISHED
    if options.hypes_yaml is not None:
        args = (load_file(options.hypes_yaml).get("box_align") or {}).get("args")
        if args is None:
            raise ConfigError(f"{options.hypes_yaml}: no box_align.args; they say how boxes correct poses.")
    return alignment_options(args, stored)


def _frames(stored: StoredBoxes, limit: int | None) -> Iterator[tuple[int, Mapping[str, DetectedBoxes]]]:
    for index in list(stored.indices())[:limit]:
        agents = stored.of(index)
        if len(agents) > 1:
            yield index, agents


def _tells_uncertainty(stored: StoredBoxes) -> bool:
    boxes = (own for index in stored.indices() for own in stored.of(index).values() if len(own.corners))
    return next((own.uncertainty.shape[1] >= 2 for own in boxes), False)


def _poses(file: Path, index: int, agents: Mapping[str, DetectedBoxes]) -> NDArray[np.float64]:
    poses = [own.pose for own in agents.values()]
    if any(pose is None for pose in poses):
        raise DataError(f"{file}: frame {index} tells no lidar_pose_clean_np; make it again with pose_graph_pre_calc.")
    return np.stack(poses)  # type: ignore[arg-type]


def _errors(poses: NDArray[np.float64], clean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N - 1, 2) metres in the plane and degrees by which believed and true relative poses differ."""
    pairs = zip(poses[1:], clean[1:], strict=True)
    between = np.stack([x1_to_x2(clean[0], true) @ x1_to_x2(pose, poses[0]) for pose, true in pairs])
    turned = np.degrees(np.arctan2(between[:, 1, 0], between[:, 0, 0]))
    return np.stack([np.hypot(between[:, 0, 3], between[:, 1, 3]), np.abs(turned)], axis=1)


def _written(found: PoseErrors, options: PoseErrorOptions, alignment: AlignmentOptions) -> tuple[Path, ...]:
    folder = options.out or options.boxes.parent
    content = {
        "boxes": str(options.boxes),
        "noise": {"pos_std": options.pos_std, "rot_std": options.rot_std, "seed": options.seed},
        "args": {**vars(alignment), "anchor_size": list(alignment.anchor_size)},
        "frames": found.frames,
        "collaborators": len(found.metres[NOISY]),
        "errors": {variant: found.summary(variant) for variant in found.metres},
    }
    name = f"pose_errors_{options.pos_std:g}_{options.rot_std:g}"
    panels = {"error of the position (m)": found.metres, "error of the yaw (degrees)": found.degrees}
    picture = draw_curves(
        {axis: {label: _shares(errors) for label, errors in variants.items()} for axis, variants in panels.items()},
        folder / f"{name}.png",
        title=f"pose noise {options.pos_std:g} m, {options.rot_std:g} degrees",
        height="share of collaborators",
    )
    return write_yaml(folder / f"{name}.yaml", content), picture


def _shares(errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve of the share of collaborators (0 to 1) with at most so large an error."""
    return np.sort(errors), np.arange(1, len(errors) + 1) / len(errors)
