"""Looking into a detector: where a pyramid trusts each agent, and how far apart the maps of agents are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opencood.batch import to_device
from opencood.data.frame import EGO
from opencood.errors import ConfigError
from opencood.evaluation.tables import text_table
from opencood.experiments.session import InferenceOptions, Session, open_session
from opencood.models.detector import Detector
from opencood.visualization.charts import draw_maps

ROWS = 512  # cells that are compared; kernels between all of them are computed
_OCCUPANCY = "occ_single_list"


@dataclass(frozen=True)
class ViewOptions:
    """Which run, how many frames, where; ``untrained`` goes on without a checkpoint."""

    model_dir: Path
    frames: int = 4
    device: str = "auto"
    untrained: bool = False


@torch.inference_mode()
def draw_weights(options: ViewOptions, out: Path) -> list[Path]:
    """For each frame a picture of the occupancy (0 to 1) that weighs each agent on each level of a pyramid fusion.

    Raises:
        ConfigError: the detector gives no such maps.
    """
    session, files = _open(options), []
    for index, batch in _batches(session, options.frames):
        levels = session.model(batch[EGO]).get(_OCCUPANCY)
        if not levels:
            name = session.hypes["model"]["core_method"]
            raise ConfigError(f"model.core_method: '{name}' fuses without weights by occupancy; pyramids have them.")
        rows = [[torch.sigmoid(level[agent, 0]).cpu().numpy() for level in levels] for agent in range(len(levels[0]))]
        files.append(draw_maps(rows, out / f"weights_{index:05d}.png", "agent", "level"))
    return files


@torch.inference_mode()
def distances(options: ViewOptions) -> list[str]:
    """A table: linear CKA, squared MMD and cosine between the maps of agents that meet, by pair of modalities.

    Raises:
        ConfigError: a module of its own has no maps to compare.
    """
    session = _open(options)
    if not isinstance(session.model, Detector):
        raise ConfigError("model.core_method: a module of its own does not say what its agents' features are.")
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _, batch in _batches(session, options.frames):
        scene = session.model.encode(batch[EGO])
        maps = scene.to_ego(scene.map)
        for first, second in combinations(range(len(maps)), 2):
            pair = [scene.modality[row] if scene.modality else "agent" for row in (first, second)]
            if maps[first].shape == maps[second].shape and (both := _cells(maps[first], maps[second])):
                found.setdefault(" and ".join(sorted(pair)), []).append((cka(*both), mmd(*both), cosine(*both)))
    rows = [
        (pair, str(len(values)), *(f"{value:.4f}" for value in np.mean(values, axis=0)))
        for pair, values in found.items()
    ]
    return [text_table(("maps of", "pairs", "CKA", "MMD^2", "cosine"), rows)]


def cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of (n, c) and (n, d) features of the same cells: 1 for the same up to rotation.

    Source: Kornblith et al., ICML 2019.
    """
    x, y = first - first.mean(0), second - second.mean(0)
    scale = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    return float(torch.linalg.norm(y.T @ x) ** 2 / scale.clamp(min=1e-12))


def mmd(first: Tensor, second: Tensor) -> float:
    """Squared maximum mean discrepancy (biased) of (n, c) and (m, c) features under a Gaussian kernel.

    Its width is the median distance of all rows. Source: Gretton et al., JMLR 2012.
    """
    both = torch.cat([first, second])
    squared = torch.cdist(both, both) ** 2
    kernel = torch.exp(-squared / squared.median().clamp(min=1e-12))
    n = len(first)
    return float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean())


def cosine(first: Tensor, second: Tensor) -> float:
    """Mean cosine between (n, c) features of the same cells."""
    return float(torch.cosine_similarity(first, second).mean())


def _cells(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor] | None:
    """(n, c) features of cells in which both (c, h, w) maps hold something, evenly spread; None without any."""
    x, y = first.flatten(1).T, second.flatten(1).T
    shared = ((x != 0).any(1) & (y != 0).any(1)).nonzero()[:, 0]
    if len(shared) < 2:
        return None
    chosen = shared[torch.linspace(0, len(shared) - 1, min(ROWS, len(shared))).round().long()]
    return x[chosen].double(), y[chosen].double()


def _open(options: ViewOptions) -> Session:
    return open_session(
        InferenceOptions(options.model_dir, limit=options.frames, device=options.device, untrained=options.untrained)
    )


def _batches(session: Session, limit: int) -> Iterator[tuple[int, Any]]:
    dataset = session.dataset
    for index in range(min(limit, len(dataset))):
        if (sample := dataset[index]) is not None:
            yield index, to_device(dataset.collate_batch_test([sample]), session.device)
