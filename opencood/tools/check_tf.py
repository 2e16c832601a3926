#!/usr/bin/env python
"""Turn log.log of a training into TensorBoard curves, written into the folder trans beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, convert, say how much."""
    made = Parser(description=__doc__)
    made.add_argument("log_directory", type=Path, help="run folder with log.log")
    given = made.parse_args(argv)
    from opencood.experiments.log_curves import curves_of_log

    points, folder = curves_of_log(given.log_directory)
    print(f"wrote {points} points to {folder}; look at them with: tensorboard --logdir {folder}")


if __name__ == "__main__":
    run(main)
