#!/usr/bin/env python
"""Show what a hypes file builds, without weights or data: stages, shapes, parameters, operations, bits per message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.config.loader import load_yaml
from opencood.experiments.describe import VOXELS, describe
from opencood.tools._cli import Parser, at_least, only_warnings, run


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report."""
    parser = Parser(description=__doc__)
    parser.add_argument("-y", "--hypes_yaml", type=Path, required=True, metavar="FILE", help="hypes file")
    parser.add_argument(
        "--agents", type=at_least(1), help="agents in the scene (default: one of each modality, at least two)"
    )
    parser.add_argument(
        "--voxels", type=at_least(1), default=VOXELS, help="cells with points for each LiDAR (default %(default)s)"
    )
    options = parser.parse_args(argv)
    with only_warnings():
        report = describe(load_yaml(options.hypes_yaml), options.agents, options.voxels)
    print("\n".join(report.lines()))
    return 0


if __name__ == "__main__":
    run(main)
