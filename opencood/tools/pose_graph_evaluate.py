#!/usr/bin/env python
"""Tell how wrong poses are under pose noise, and after correction by the boxes of pose_graph_pre_calc.

Example: ``python opencood/tools/pose_graph_evaluate.py logs/coalign_precalc/opv2v/test/stage1_boxes.json``. Writes a
table (YAML) and a picture beside the boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.tools._cli import Parser, at_least, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the table."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", type=Path, help="stage1_boxes.json")
    parser.add_argument("--pos_std", type=float, default=0.2, metavar="M", help="noise of x and y of the collaborators")
    parser.add_argument("--rot_std", type=float, default=0.2, metavar="DEG", help="noise of their yaw")
    parser.add_argument("--seed", type=at_least(0), default=100)
    parser.add_argument(
        "--hypes_yaml", "-y", type=Path, help="its box_align.args are used; default: those of CoAlign's files"
    )
    parser.add_argument("--out", type=Path, help="folder for table and picture; default: beside the boxes")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N frames")
    arguments = parser.parse_args(argv)
    from opencood.experiments.pose_errors import PoseErrorOptions, evaluate_poses

    found = evaluate_poses(PoseErrorOptions(**vars(arguments)))
    print("\n".join([*found.lines(), *(f"wrote {file}" for file in found.files)]))


if __name__ == "__main__":
    run(main)
