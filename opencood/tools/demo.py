#!/usr/bin/env python
"""Simulate a small world, train four ways to collaborate, evaluate them and print one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run the steps that are not done yet, print the table and where the pictures are."""
    from opencood.experiments.demo import PRESETS, run_demo

    parser = Parser(description=__doc__)
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="demo", help="smallest: checks the pipeline in a minute or two"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo_output"), help="everything goes here; finished steps are kept"
    )
    parser.add_argument("--fresh", action="store_true", help="do all steps again")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda...")
    arguments = parser.parse_args(argv)
    result = run_demo(arguments.out, arguments.preset, fresh=arguments.fresh, device=arguments.device)
    print("\n".join(result.lines()))


if __name__ == "__main__":
    run(main)
