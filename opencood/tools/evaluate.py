#!/usr/bin/env python
"""Compute average precision again from a file of inference.py --save_detections, without data or model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, evaluate, print the report."""
    parser = Parser(description=__doc__)
    parser.add_argument("detections", type=Path, help="the .npz file")
    parser.add_argument("--iou", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="IoU thresholds")
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="also write the result file")
    arguments = parser.parse_args(argv)
    from opencood.experiments.evaluate import evaluate_file

    print("\n".join(evaluate_file(arguments.detections, arguments.iou, arguments.out).lines()))


if __name__ == "__main__":
    run(main)
