#!/usr/bin/env python
"""Draw what a pretrained encoder sees of a frame, what it predicts for the rest, and what was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, draw, print the distances."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model_dir", required=True, type=Path, help="run folder of a pretraining")
    parser.add_argument("--index", type=at_least(0), default=0, metavar="N", help="frame of the split (default: 0)")
    parser.add_argument("--train", action="store_true", help="of the training split")
    parser.add_argument("--reach", type=float, metavar="M", help="metres around the ego; default: the whole range")
    parser.add_argument("--epoch", type=at_least(1), metavar="N", help="of the checkpoint; default: the best")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="default: reconstruction_<N>.png in the run folder"
    )
    given = parser.parse_args(argv)
    from opencood.experiments.reconstruction import ReconstructionOptions, show_reconstruction

    print("\n".join(show_reconstruction(ReconstructionOptions(**vars(given))).lines()))


if __name__ == "__main__":
    run(main)
