"""Everything that decides the numbers of an evaluation, written beside them."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import opencood
from opencood.config.flavor import flavor_of, parity_of, quirks_of
from opencood.config.save import digest, own_version, to_plain
from opencood.data.build import format_of, gt_range_of
from opencood.data.perturb.settings import active


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def code_version() -> str:
    """Package version, with the commit when the code is a git checkout."""
    root = Path(opencood.__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found = ""
    return f"{own_version()}+{found}" if found else own_version()


def describe_protocol(
    hypes: Mapping[str, Any], config_file: Path, checkpoint: Path | None, **choices: Any
) -> dict[str, Any]:
    """The protocol section of a report; ``choices`` are what the command line decided (method, range, seed...)."""
    postprocess = hypes.get("postprocess") or {}
    fusion = hypes.get("fusion") or {}
    return {
        "config": {"file": str(config_file), "sha256": file_digest(config_file), "content_sha1": digest(hypes)},
        "checkpoint": None if checkpoint is None else {"file": str(checkpoint), "sha256": file_digest(checkpoint)},
        "name": hypes.get("name"),
        "flavor": flavor_of(hypes),
        "parity": parity_of(hypes),
        "quirks": to_plain(quirks_of(hypes)),
        "dataset": {
            "format": format_of(hypes),
            "sample": fusion.get("core_method"),
            "split": str(hypes.get("validate_dir")),
        },
        "gt_range": [float(limit) for limit in gt_range_of(hypes)],
        "score_threshold": (postprocess.get("target_args") or {}).get("score_threshold"),
        "nms_threshold": postprocess.get("nms_thresh"),
        "noise_setting": to_plain(hypes.get("noise_setting")),
        "wild_setting": to_plain(hypes.get("wild_setting")),
        "box_align": to_plain(hypes.get("box_align")),
        "perturb": to_plain(active(hypes.get("perturb"), train=False)),
        "iou": "rotated boxes seen from above (BEV polygons), float64",
        "matching": "greedy by descending score, one detection per ground truth, IoU >= threshold",
        "ap": "area under the precision envelope (VOC 2010)",
        "code": code_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    } | to_plain(choices)
