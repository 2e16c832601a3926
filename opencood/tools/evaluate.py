#!/usr/bin/env python
"""Compute average precision again from a file of --save_detections (every inference tool), without data or model.

Both AP variants are given. Examples:
  python opencood/tools/evaluate.py boxes.npz --iou 0.3 0.5 --range 50,40
  python opencood/tools/evaluate.py boxes.npz --bands 0-30,30-50,50-100 --classes pedestrian
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, evaluate, print the report."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detections", type=Path, help="the .npz file")
    parser.add_argument(
        "--iou", "--thresholds", type=float, nargs="+", default=[0.3, 0.5, 0.7], metavar="T", help="IoU thresholds"
    )
    parser.add_argument(
        "--variant", metavar="NAME", help="global_sort or frame_order, given first; default: that of the run"
    )
    parser.add_argument("--range", metavar="X,Y", help="only what lies within so many metres of the ego, along x and y")
    parser.add_argument("--bands", metavar="A-B,B-C", help="distances from the ego, each also by itself; or: published")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="only these classes")
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="also write the result file")
    given = parser.parse_args(argv)
    from opencood.experiments.evaluate import EvaluationOptions, evaluate_file

    options = EvaluationOptions(given.iou, given.variant, given.range, given.bands, given.classes, given.out)
    print("\n".join(evaluate_file(given.detections, options).lines()))


if __name__ == "__main__":
    run(main)
