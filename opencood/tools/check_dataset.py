#!/usr/bin/env python
"""Read a data set as training would and say what is there, what is wrong and what to do about it.

Exit code 0: training can start; 1: something must be repaired first; 2: the command line or the path is wrong.
Example: ``python opencood/tools/check_dataset.py dataset/OPV2V --need camera --jobs 4``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.dataset_check.check import CheckOptions, check_dataset, write_report
from opencood.experiments.dataset_check.judge import OPTIONAL
from opencood.tools._cli import Parser, at_least, run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="data set, one split of it, or its list of frames")
    parser.add_argument("--format", metavar="NAME", help="opv2v, v2xset, v2xsim, dairv2x, ... (default: recognised)")
    parser.add_argument(
        "--need",
        nargs="+",
        default=[],
        metavar="KIND",
        help=f"what must be there besides clouds: {', '.join(OPTIONAL)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="all metadata, but about 200 frames of clouds and pictures"
    )
    parser.add_argument("--jobs", type=at_least(1), default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--plugin", nargs="+", default=[], metavar="FILE", help="Python files that register a reader")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        type=_key_value,
        metavar="KEY=VALUE",
        help="keys of the reader, such as data_dir",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one block for each split and the verdict."""
    options = parse(argv)
    checked = CheckOptions(
        root=options.root,
        format=options.format,
        need=tuple(options.need),
        quick=options.quick,
        jobs=options.jobs,
        plugins=tuple(options.plugin),
        hypes=dict(options.set),
    )
    reports = []
    for report in check_dataset(checked):
        print("\n".join(report.lines()), flush=True)
        reports.append(report)
    if options.json is not None:
        write_report(options.json, options.root, reports)
    stopped = [report.split.name for report in reports if not report.can_start]
    print(f"not ready: {', '.join(stopped)}" if stopped else "training can start")
    return 1 if stopped else 0


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found '{text}'")
    return key, value


if __name__ == "__main__":
    run(main)
