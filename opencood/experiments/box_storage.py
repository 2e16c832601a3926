"""Store what a detector finds in every frame, for pose correction (``tools/pose_graph_pre_calc.py``, tools.md 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from opencood.batch import to_device
from opencood.config.loader import Hypes, load_yaml, reparse
from opencood.config.save import digest
from opencood.config.tree import given, section
from opencood.data.stored_boxes import StoredBoxes
from opencood.errors import CheckpointError, ConfigError, nearest
from opencood.evaluation.files import write_text, write_yaml
from opencood.experiments.build import build_dataset, build_model
from opencood.experiments.devices import choose_device
from opencood.experiments.line_journal import LineJournal
from opencood.experiments.protocol import code_version, file_digest
from opencood.models.checkpoints import find_checkpoint, load_checkpoint
from opencood.registry import REGISTRY

FILE, JOURNAL = "stage1_boxes.json", "stage1_boxes.partial.jsonl"
SPLITS = {"train": "root_dir", "val": "validate_dir", "test": "test_dir"}
PARSER = "load_voxel_params"  # what the published tool applies besides the file's own
_DECIMALS = 6  # micrometres
_NOTHING = "null"
# What must not touch the frames: poses are to be true, clouds as they were measured.
_UNDISTURBED: dict[str, Any] = {
    "noise_setting": {"add_noise": False}, "wild_setting": None, "perturb": None, "box_align": None, "kd_flag": None,
    "labels": False,
}  # fmt: skip


@dataclass(frozen=True)
class StorageOptions:
    """Arguments of ``tools/pose_graph_pre_calc.py``.

    Attributes:
        hypes_yaml: file with a section ``box_align_pre_calc``.
        model_dir: a run folder whose configuration is read instead.
        splits: which of ``train``, ``val``, ``test``.
        out: replaces ``output_save_path``.
        checkpoint: replaces ``stage1_model_path``; a file, or a run folder.
        limit: only the first so many frames.
        overwrite: forget what earlier runs stored.
    """

    hypes_yaml: Path | None = None
    model_dir: Path | None = None
    splits: Sequence[str] = tuple(SPLITS)
    out: Path | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    workers: int = 4
    limit: int | None = None
    overwrite: bool = False
    progress: bool = True


@dataclass(frozen=True)
class Stored:
    """What became of one split.

    Attributes:
        file: the stored boxes.
        frames: number of frames in which anything was found.
        boxes: number of boxes.
        before: frames that an earlier run had done already.
    """

    file: Path
    frames: int
    boxes: int
    before: int


def store_boxes(options: StorageOptions) -> dict[str, Stored]:
    """Run the detector of ``box_align_pre_calc`` over the splits and write ``<out>/<split>/stage1_boxes.json``.

    A finished split is left alone, an interrupted one is continued.

    Raises:
        ConfigError: the section is missing or incomplete, or an interrupted run had another detector.
        CheckpointError: the weights are missing or another model's.
        DataError: a data folder is missing or broken.
    """
    hypes = _hypes(options)
    settings = section(hypes, "box_align_pre_calc")
    out = Path(str(options.out or _needed(settings, "output_save_path")))
    splits = list(options.splits)
    for name in splits:
        if name not in SPLITS:
            raise ConfigError(f"--splits: unknown '{name}'.{nearest(name, SPLITS)} Valid: {', '.join(SPLITS)}.")
    todo = [name for name in splits if options.overwrite or not (out / name / FILE).is_file()]
    done = {name: _summary(out / name / FILE) for name in splits if name not in todo}
    if todo:
        finder = _Finder(hypes, settings, options)
        done |= {name: _store(finder, name, out / name, options) for name in todo}
    return {name: done[name] for name in splits}


class _Finder:
    """The detector with its weights, and what identifies it."""

    def __init__(self, hypes: Hypes, settings: Mapping[str, Any], options: StorageOptions) -> None:
        name, arguments = _needed(settings, "stage1_model"), _needed(settings, "stage1_model_config")
        postprocess = _needed(settings, "stage1_postprocessor_config")
        self.checkpoint = _checkpoint(Path(str(options.checkpoint or _needed(settings, "stage1_model_path"))))
        self.hypes = hypes.replaced(
            {**hypes, **_UNDISTURBED, "model": {"core_method": name, "args": arguments}, "postprocess": postprocess}
        )
        fusion = {**section(hypes, "fusion"), "core_method": "intermediate", "args": {"proj_first": False}}
        self.hypes["fusion"] = fusion
        self.device = choose_device(options.device)
        self.model = build_model(self.hypes.replaced({**self.hypes, "missing_checkpoints": "scratch"}), False)
        load_checkpoint(self.model, self.checkpoint)
        self.model.to(self.device).eval()
        entry = REGISTRY.get("postprocessor", _registered(_needed(settings, "stage1_postprocessor_name")))
        self.postprocessor = entry.target(section=postprocess)
        self.anchor_size = [float(section(postprocess, "anchor_args")[side]) for side in ("l", "w")]

    def dataset(self, split: str) -> Any:
        """The frames of a split in the order of testing."""
        return build_dataset(self.hypes.replaced({**self.hypes, "validate_dir": self.hypes[SPLITS[split]]}), False)

    @torch.inference_mode()
    def boxes(self, batch: Mapping[str, Any]) -> dict[str, Any] | None:
        """The entry of one frame, or None where nothing was found."""
        corners, _, uncertainty = self.postprocessor.post_process_stage1(self.model(to_device(batch, self.device)))
        if corners is None:
            return None
        return {
            "pred_corner3d_np_list": [_plain(boxes) for boxes in corners],
            "uncertainty_np_list": [_plain(values) for values in uncertainty],
            "lidar_pose_clean_np": _plain(batch["lidar_pose_clean"]),
            "cav_id_list": list(batch["cav_id_list"]),
        }

    def describe(self) -> dict[str, Any]:
        """What decides the boxes of a split."""
        return {"configuration": digest(self.hypes), "checkpoint_sha256": file_digest(self.checkpoint)}


def _hypes(options: StorageOptions) -> Hypes:
    hypes = load_yaml(options.hypes_yaml, model_dir=options.model_dir)
    if not given(hypes, "box_align_pre_calc"):
        raise ConfigError(f"{hypes.path}: no section box_align_pre_calc; it names the detector whose boxes are stored.")
    parsers = hypes.get("yaml_parser") or []
    parsers = [parsers] if isinstance(parsers, str) else list(parsers)
    voxels = section(hypes, "preprocess").get("args", {})
    if PARSER in parsers or "voxel_size" not in voxels:
        return hypes
    return reparse(hypes.replaced({**hypes, "yaml_parser": [*parsers, PARSER]}))


def _store(finder: _Finder, split: str, folder: Path, options: StorageOptions) -> Stored:
    dataset = finder.dataset(split)
    total = len(dataset) if options.limit is None else min(options.limit, len(dataset))
    journal = LineJournal(folder / JOURNAL, finder.describe() | {"frames": total}, options.overwrite)
    todo = [index for index in range(total) if index not in journal.items]
    before = total - len(todo)
    loader = DataLoader(
        Subset(dataset, todo),
        batch_size=1,
        num_workers=min(options.workers, len(todo), os.cpu_count() or 1),
        collate_fn=dataset.collate_batch_test,
    )
    quiet = None if options.progress else True
    with journal, tqdm(loader, split, total, initial=before, unit="frame", disable=quiet) as batches:
        for index, batch in zip(todo, batches, strict=True):
            journal.add(index, None if batch is None else finder.boxes(batch["ego"]))
    found = [f'"{index}": {text}' for index, text in sorted(journal.items.items()) if text != _NOTHING]
    write_text(folder / FILE, "{\n    " + ",\n    ".join(found) + "\n}\n")
    write_yaml(
        (folder / FILE).with_suffix(".yaml"),
        {
            "anchor_size": finder.anchor_size,
            "model": finder.hypes["model"]["core_method"],
            "checkpoint": str(finder.checkpoint),
            **finder.describe(),
            "split": str(finder.hypes[SPLITS[split]]),
            "frames": total,
            "code": code_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    journal.path.unlink()
    return _summary(folder / FILE, before)


def _summary(file: Path, before: int | None = None) -> Stored:
    stored = StoredBoxes(file)
    boxes = sum(len(own.corners) for index in stored.indices() for own in stored.of(index).values())
    return Stored(file, len(stored), boxes, len(stored) if before is None else before)


def _checkpoint(path: Path) -> Path:
    if path.is_dir():
        found = find_checkpoint(path)
        if found is None:
            raise CheckpointError(
                f"{path}: holds no checkpoint (net_epoch*.pth) of the detector whose boxes are stored."
            )
        return Path(found[0])
    if not path.is_file():
        raise CheckpointError(f"box_align_pre_calc.stage1_model_path: no file '{path}'; train that detector first.")
    return path


def _registered(name: Any) -> str:
    """Published files write ``uncertainty_voxel_postprocessor`` for ``UncertaintyVoxelPostprocessor``."""
    wanted = str(name).replace("_", "").lower()
    return next((known for known in REGISTRY.names("postprocessor") if known.lower() == wanted), str(name))


def _needed(settings: Mapping[str, Any], key: str) -> Any:
    if not settings.get(key):
        raise ConfigError(f"box_align_pre_calc.{key}: missing.")
    return settings[key]


def _plain(values: Any) -> list[Any]:
    return np.round(torch.as_tensor(values).cpu().numpy().astype(np.float64), _DECIMALS).tolist()
