#!/usr/bin/env python
"""Measure a detector: parameters, operations, time of a frame and of each part, training steps, memory.

Frames are those of the configuration, or simulated ones where its folders are not there. Weights do not matter, so no
checkpoint is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, only_warnings, run


def parser() -> Parser:
    """All arguments: names of the published profilers, then ours."""
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("-y", "--hypes_yaml", help="hypes file, or config.yaml of a run")
    made.add_argument("--model_dir", default="", help="run folder whose configuration and weights are taken instead")
    made.add_argument("--half", action="store_true", help="agents reach half as far (comm_range)")
    made.add_argument("--range", metavar="X,Y", help="detection range in metres; default: the configuration's")
    made.add_argument(
        "--agents", type=at_least(1), nargs="+", default=[], metavar="N", help="numbers of agents, in turn"
    )
    made.add_argument("--training", action="store_true", help="training steps too")
    made.add_argument("--runs", type=at_least(1), default=20, metavar="N", help="passes that count (%(default)s)")
    made.add_argument("--warm_up", type=at_least(0), default=3, metavar="N", help="passes before them (%(default)s)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    made.add_argument("--small", action="store_true", help="shrink the configuration first: tries the command only")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print a table for each number of agents."""
    made = parser()
    measure(made, made.parse_args(argv))


def measure(made: Parser, given: argparse.Namespace, **replaced: object) -> None:
    """Measure as the parsed arguments say; ``replaced`` are those that a published name fixes."""
    given = argparse.Namespace(**vars(given) | replaced)
    if not given.hypes_yaml and not given.model_dir:
        made.error("-y FILE or --model_dir FOLDER is needed")
    from opencood.experiments.profiling import ProfileOptions, profile

    options = ProfileOptions(
        given.hypes_yaml, given.model_dir or None, tuple(given.agents), given.runs, given.warm_up, given.training,
        given.range, given.half, given.device, given.small,
    )  # fmt: skip
    with only_warnings():
        for measured in profile(options):
            print("\n".join([*measured.lines(), ""]))


if __name__ == "__main__":
    run(main)
