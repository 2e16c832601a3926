"""What a pretrained encoder makes of a frame: a picture, and how far its points are from the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opencood.batch import to_device
from opencood.config.loader import load_yaml
from opencood.config.pretrain import is_pretraining, pretraining_of
from opencood.config.tree import lookup
from opencood.data.frame import EGO
from opencood.errors import CheckpointError, ConfigError
from opencood.experiments.build import build_dataset, build_from_scratch
from opencood.experiments.devices import choose_device
from opencood.experiments.pictures import is_left_handed
from opencood.geometry.chamfer import chamfer
from opencood.models.checkpoints import find_checkpoint, load_checkpoint
from opencood.models.pretraining.masking import Voxels, filled_slots
from opencood.visualization.reconstruction import draw_reconstruction

FAINT = 0.35
PICTURE = "reconstruction_{index:04d}.png"


@dataclass(frozen=True)
class ReconstructionOptions:
    """Arguments of ``tools/show_reconstruction.py``.

    Attributes:
        model_dir: run folder of a pretraining.
        index: frame of the split.
        train: of ``root_dir`` instead of ``validate_dir``.
        out: the picture; None writes it into the run folder.
        reach: metres around the ego that are shown; None takes the range.
        epoch: of the checkpoint; None takes the best, else the latest.
    """

    model_dir: Path
    index: int = 0
    train: bool = False
    out: Path | None = None
    reach: float | None = None
    epoch: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ReconstructionReport:
    """Metres from a predicted point to the nearest true one of its cell, and back (sums over x, y, z)."""

    picture: Path
    cells: int
    to_truth: float
    to_prediction: float

    def lines(self) -> list[str]:
        """What a command line prints."""
        return [
            f"{self.cells} hidden cells: predicted points are {self.to_truth:.3f} m from true ones, true ones "
            f"{self.to_prediction:.3f} m from predicted ones (x, y and z added).",
            f"wrote {self.picture}",
        ]


def show_reconstruction(options: ReconstructionOptions) -> ReconstructionReport:
    """Hide a part of a frame, predict it, measure and draw.

    Raises:
        ConfigError: the run folder holds no pretraining of points, or there is no such frame.
        CheckpointError: it has no checkpoint.
    """
    hypes = load_yaml(None, model_dir=options.model_dir)
    if not is_pretraining(hypes) or pretraining_of(hypes).target != "points":
        raise ConfigError(f"{options.model_dir}: is no pretraining with the target points; there is nothing to draw.")
    found = find_checkpoint(options.model_dir, options.epoch)
    if found is None:
        raise CheckpointError(f"{options.model_dir}: holds no checkpoint (net_epoch*.pth).")
    dataset = build_dataset(hypes.replaced({**hypes, "data_augment": []}), train=options.train)
    if not 0 <= options.index < len(dataset):
        raise ConfigError(f"--index: the split has the frames 0 to {len(dataset) - 1}, not {options.index}.")
    device = choose_device(options.device)
    model: Any = build_from_scratch(hypes).to(device).eval()
    load_checkpoint(model, found[0])
    ego = to_device(dataset.collate_batch_train([dataset[options.index]])[EGO], device)
    with torch.inference_mode():
        outputs = model(ego)
        hidden = model.masking(ego["processed_lidar"])
    return _report(options, hypes, model, ego["processed_lidar"], hidden, outputs)


def _report(
    options: ReconstructionOptions, hypes: Any, model: Any, voxels: Voxels, hidden: Tensor, outputs: dict[str, Tensor]
) -> ReconstructionReport:
    cells, valid = outputs["target_cells"], outputs["target_valid"]
    sample, y, x = cells.unbind(1)
    predicted = outputs["pred_coor"][sample, :, y, x].unflatten(1, (3, -1)).transpose(1, 2)
    made, truth = (model.targets.in_metres(cells, points) for points in (predicted, outputs["target_points"]))
    distance = chamfer(made, truth, valid)
    seen = _points(voxels, filled_slots(voxels) & ~hidden)
    gone = _points(voxels, hidden)
    panels = [
        (f"what is seen ({len(seen)} points)", [(seen, 1.0)]),
        ("what is predicted for the hidden cells", [(seen, FAINT), (_host(made.flatten(0, 1)), 1.0)]),
        (f"what was hidden ({len(gone)} points)", [(seen, FAINT), (_host(truth[valid]), 1.0)]),
    ]
    x0, y0, _, x1, y1, _ = lookup(hypes, "preprocess.cav_lidar_range")
    reach = options.reach
    limits = (x0, y0, x1, y1) if reach is None else (-reach, -reach, reach, reach)
    picture = draw_reconstruction(
        panels,
        limits,
        options.out or options.model_dir / PICTURE.format(index=options.index),
        title=f"{hypes.get('name', '')}, frame {options.index}",
        left_hand=is_left_handed(hypes),
    )
    return ReconstructionReport(picture, len(cells), float(distance.source), float(distance.target))


def _points(voxels: Voxels, chosen: Tensor) -> Any:
    return _host(voxels["voxel_features"][chosen][:, :3])


def _host(points: Tensor) -> Any:
    return points.float().cpu().numpy()
