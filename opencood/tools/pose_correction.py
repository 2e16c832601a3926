#!/usr/bin/env python
"""Make a table on simulated data: average precision against pose noise, with and without correction by boxes.

Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("opencood/logs/pose_correction"), help="folder of everything")
    parser.add_argument("--preset", default="table", help="table (default), or smallest: a test of the machinery")
    parser.add_argument("--fresh", action="store_true", help="do everything again")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    arguments = parser.parse_args(argv)
    from opencood.experiments.pose_correction import run_pose_correction

    print("\n".join(run_pose_correction(**vars(arguments)).lines()))


if __name__ == "__main__":
    run(main)
