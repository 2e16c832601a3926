#!/usr/bin/env python
"""Load every hypes YAML below some paths and say, file by file, whether it is right; --build also builds detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.hypes_check import check_files
from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Print parser, flavor, parity and outcome of each file; exit code 1 when any file is wrong."""
    parser = Parser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="hypes file, or a folder of them")
    parser.add_argument("--build", action="store_true", help="also build the detector: parameters, entries, digest")
    options = parser.parse_args(argv)
    wrong = total = 0
    for checked in check_files(options.paths, options.build):
        print("\n".join(checked.lines()), flush=True)
        total += 1
        wrong += bool(checked.error)
    print(f"{total} files, {wrong} with an error")
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main)
