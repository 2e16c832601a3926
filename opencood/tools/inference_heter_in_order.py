#!/usr/bin/env python
"""Evaluate with one, two, three... agents that enter in a fixed order of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, number, run
from opencood.tools.inference import common_parser, parse, print_report


def parser() -> Parser:
    """Arguments of the published tool, then ours."""
    made = common_parser(__doc__)
    made.add_argument("--range", metavar="X,Y", help="detection range in metres; default: the configuration's")
    made.add_argument("--use_cav", nargs="+", default=["[1,2,3,4]"], metavar="[K,...]", help="numbers of agents")
    made.add_argument("--lidar_degrade", action="store_true", help="four agents, twice, with fewer LiDAR beams")
    made.add_argument("--no_score", action="store_true", help="pictures without scores")
    made.add_argument("--save_npy", action="store_true", help="accepted and ignored, as published")
    add_published(made)
    made.add_argument(
        "--legacy_model_init", action="store_true", help="build the detector as for training, with its checkpoints"
    )
    return made


def add_published(made: Parser) -> None:
    """What CodeAlign's inference tools share."""
    made.add_argument("--no_vis", action="store_true", help="no pictures")
    made.add_argument("--output_dir", type=Path, help="where results and pictures go; default: the run folder")
    made.add_argument(
        "--noise", type=number(0), default=0.0, metavar="STD", help="Gaussian pose noise, metres and degrees alike"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the report of each number of agents."""
    arguments = parse(parser(), argv)
    from opencood.experiments.in_order import parse_use_cav, run_in_order, write_table
    from opencood.experiments.noise import gaussian
    from opencood.experiments.session import InferenceOptions

    use_cav, degrade = parse_use_cav("".join(arguments.pop("use_cav"))), arguments.pop("lidar_degrade")
    if arguments.pop("save_npy"):
        print("note: --save_npy is ignored here, as published; use tools/inference.py --agents")
    if arguments.pop("no_vis"):
        arguments["save_vis_interval"] = 0
    if noise := arguments.pop("noise"):
        arguments |= {"noise": gaussian(noise), "label": f"pos_{noise}_rot_{noise}"}
    arguments["as_in_training"] = arguments.pop("legacy_model_init")
    options = InferenceOptions(range_xy=arguments.pop("range"), **arguments)
    results = []
    for entrance, report in run_in_order(options, use_cav, degrade):
        print(f"--- {entrance}")
        print_report(report)
        results.append((entrance, report))
    lines, file = write_table(results)
    print("\n".join(["", *lines, f"wrote {file}"]))


if __name__ == "__main__":
    run(main)
