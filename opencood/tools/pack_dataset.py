#!/usr/bin/env python
"""Pack a data set into a few memory-mapped files with checksums that are read faster than the folder.

Example: ``python opencood/tools/pack_dataset.py dataset/OPV2V dataset/OPV2V_packed --images raw``; then let
``root_dir`` and ``validate_dir`` name the packed folder, such as ``dataset/OPV2V_packed/train``. An interrupted run
continues when the same command is repeated.

``--prepare YAML`` also makes the voxels of a configuration in advance, then or later
(``pack_dataset.py dataset/OPV2V_packed --prepare hypes.yaml``): samples get several times faster, and overfull voxels
keep other points (docs/packing.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.config.loader import load_yaml
from opencood.experiments.pack import PackOptions, is_packed, pack, summary, verify
from opencood.experiments.prepare import describe, prepare
from opencood.tools._cli import Parser, at_least, run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="root of the data set; with --verify: the packed folder")
    parser.add_argument("out", type=Path, nargs="?", help="packed folder to make")
    parser.add_argument(
        "--points",
        default="exact",
        help="exact (default), float16 (3 cm at 50 m), or millimetre (int16 steps of 1 mm); .pcd files",
    )
    parser.add_argument(
        "--images", default="keep", help="keep (default) the compressed files, or raw: decoded, larger and faster"
    )
    parser.add_argument("--jobs", type=at_least(1), default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier or unfinished packed folder")
    parser.add_argument("--prepare", nargs="+", default=[], type=Path, metavar="YAML", help="also make their voxels")
    parser.add_argument("--verify", action="store_true", help="compare all checksums, and the source if it is there")
    arguments = parser.parse_args(argv)
    if arguments.verify and (arguments.out or arguments.prepare):
        parser.error("--verify takes a packed folder and nothing else")
    if not (arguments.verify or arguments.out or arguments.prepare):
        parser.error("give SOURCE and OUT, or a packed folder and --verify or --prepare YAML")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Pack or verify; the exit code is 1 when a check found something."""
    arguments = parse(argv)
    if arguments.verify:
        problems = verify(arguments.source)
        print("\n".join(problems) or f"{arguments.source}: every checksum agrees")
        return int(bool(problems))
    packed = arguments.out or arguments.source
    if arguments.out is not None and not _is_there(arguments):
        options = PackOptions(arguments.points, arguments.images)
        report = pack(arguments.source, packed, options, jobs=arguments.jobs, overwrite=arguments.overwrite)
        print(summary(report))
        print(f"{report.out}: packed in {report.seconds:.1f} s; samples are " + _sameness(options))
    for file in arguments.prepare:
        print(f"{file}: " + describe(prepare(packed, load_yaml(file))))
    return 0


def _is_there(arguments: argparse.Namespace) -> bool:
    """Whether the source has been packed, so that only voxels are to be made."""
    return bool(arguments.prepare) and not arguments.overwrite and is_packed(arguments.source, arguments.out)


def _sameness(options: PackOptions) -> str:
    return "the same to the bit" if options.lossless else f"nearly the same (--points {options.points})"


if __name__ == "__main__":
    run(main)
