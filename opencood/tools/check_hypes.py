#!/usr/bin/env python
"""Check every hypes YAML below some paths without any data: load it, build its detector, and with --step try it out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.hypes_check import FAILED, REFUSED
from opencood.experiments.hypes_sweep import SweepOptions, summary, sweep
from opencood.tools._cli import Parser, at_least, only_warnings, run


def main(argv: Sequence[str] | None = None) -> int:
    """Print what each file is, and a table; exit code 1 when any file is refused or failed."""
    options = _parser().parse_args(argv)
    wanted = SweepOptions(tuple(options.paths), not options.no_build, options.step, options.jobs, options.reference)
    checks = []
    with only_warnings():
        for checked in sweep(wanted):
            print("\n".join(checked.lines()), flush=True)
            checks.append(checked)
    print("\n".join(["", *summary(checks)]))
    wrong = {FAILED} if options.refused_ok else {FAILED, REFUSED}
    return 1 if any(checked.outcome in wrong for checked in checks) else 0


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="hypes file, or a folder of them")
    parser.add_argument(
        "--step",
        action="store_true",
        help="shrink each file by one rule and take one training step and one evaluation on simulated data",
    )
    parser.add_argument("--no-build", action="store_true", help="only load the files")
    parser.add_argument("--jobs", type=at_least(1), default=1, help="processes (default %(default)s)")
    parser.add_argument(
        "--reference", type=Path, metavar="JSON", help="figures of a reference; another digest is a failure"
    )
    parser.add_argument("--refused-ok", action="store_true", help="exit code 1 only for failures")
    return parser


if __name__ == "__main__":
    run(main)
