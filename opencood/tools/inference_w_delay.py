#!/usr/bin/env python
"""Evaluate a trained detector with messages of growing age and write the summary of AP over delay."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools.inference import common_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print one line per level."""
    parser = common_parser(__doc__)
    parser.add_argument(
        "--also_laplace", action="store_true", help="accepted as published; delays have no such variant"
    )
    arguments = parse(parser, argv)
    if arguments.pop("also_laplace"):
        print("note: --also_laplace means nothing for delays and is ignored")
    from opencood.experiments.delay import run_delay_sweep
    from opencood.experiments.session import InferenceOptions

    sweep = run_delay_sweep(InferenceOptions(**arguments))
    for level, report in sweep.reports.items():
        marks = ", ".join(f"AP@{threshold:g} {report.ap(threshold):.4f}" for threshold in (0.3, 0.5, 0.7))
        print(f"up to {level:g} ms: {marks}")
    for file in sweep.files:
        print(f"wrote {file}")


if __name__ == "__main__":
    run(main)
