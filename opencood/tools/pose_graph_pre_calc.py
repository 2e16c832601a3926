#!/usr/bin/env python
"""Store the boxes that a detector finds in every frame, for the pose correction of CoAlign (section box_align).

Example: ``python opencood/tools/pose_graph_pre_calc.py -y precalc.yaml``. An interrupted run continues when the same
command is repeated; a split that is finished is left alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.tools._cli import Parser, at_least, run


def parse(argv: Sequence[str] | None) -> dict[str, Any]:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hypes_yaml", "-y", type=Path, help="file with a section box_align_pre_calc")
    parser.add_argument("--model_dir", default="", help="run folder whose configuration is read instead")
    parser.add_argument("--splits", nargs="+", default=("train", "val", "test"), help="default: train val test")
    parser.add_argument("--out", type=Path, help="default: box_align_pre_calc.output_save_path")
    parser.add_argument("--checkpoint", type=Path, help="default: box_align_pre_calc.stage1_model_path")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    parser.add_argument("--workers", type=at_least(0), default=4, help="loader processes, 0: none")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N frames of each split")
    parser.add_argument("--overwrite", action="store_true", help="store finished and interrupted splits anew")
    arguments = vars(parser.parse_args(argv))
    model_dir = arguments.pop("model_dir")
    return arguments | {"model_dir": Path(model_dir) if model_dir else None}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print a line per split."""
    arguments = parse(argv)
    from opencood.experiments.box_storage import StorageOptions, store_boxes

    for split, stored in store_boxes(StorageOptions(**arguments)).items():
        before = f", {stored.before} frames done before" if stored.before else ""
        print(f"{split}: {stored.boxes} boxes in {stored.frames} frames{before}: {stored.file}")


if __name__ == "__main__":
    run(main)
