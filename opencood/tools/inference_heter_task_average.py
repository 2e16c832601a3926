#!/usr/bin/env python
"""Evaluate every pair of modalities (ego, all others) by itself, and their plain mean."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, number, run
from opencood.tools.inference import common_parser, parse, print_report
from opencood.tools.inference_heter_in_order import add_published

# Switches of the published tool that have no effect there, or none that anybody could use.
WITHOUT_EFFECT = ("save_npy", "show_bev", "protocol_result")


def parser() -> Parser:
    """Arguments of the published tool, then ours."""
    made = common_parser(__doc__)
    made.add_argument("--range", metavar="X,Y", help="detection range in metres; default: the configuration's")
    add_published(made)
    made.add_argument("--score_threshold", type=number(0, 1), help="least score of a box; default: the configuration's")
    made.add_argument("--all", action="store_true", help="every pair with the roles exchanged too")
    made.add_argument("--data_only", action="store_true", help="read the data of every pair, detect nothing")
    made.add_argument("--no_score", action="store_true", help="pictures without scores")
    for name in WITHOUT_EFFECT:
        made.add_argument(f"--{name}", action="store_true", help="accepted and ignored, as published")
    made.add_argument(
        "--aggregation", choices=("", "nms", "psa"), default="", help="accepted and ignored, as published"
    )
    made.add_argument("--task", choices=("detection", "segmentation"), default="detection", help="what is evaluated")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the report of each pair and the table of all."""
    made = parser()
    arguments = parse(made, argv)
    if arguments.pop("task") != "detection":
        made.error("--task segmentation: this code detects; no detector here has a segmentation head")
    ignored = [name for name in WITHOUT_EFFECT if arguments.pop(name)]
    ignored += ["aggregation"] * bool(arguments.pop("aggregation"))
    if ignored:
        print(f"note: {', '.join(f'--{name}' for name in ignored)} ignored, as published")
    from opencood.experiments.result_rows import lines_of
    from opencood.experiments.session import InferenceOptions
    from opencood.experiments.task_average import COLUMNS, PairOptions, read_pairs, run_task_average, write_average

    if arguments.pop("no_vis"):
        arguments["save_vis_interval"] = 0
    settings = PairOptions(arguments.pop("score_threshold"), arguments.pop("all"), arguments.pop("noise"))
    data_only = arguments.pop("data_only")
    options = InferenceOptions(range_xy=arguments.pop("range"), **arguments)
    if data_only:
        for pair, frames in read_pairs(options, settings):
            print(f"ego {pair[0]}, others {pair[1]}: {frames} frames can be read")
        return
    reports = {}
    for pair, report in run_task_average(options, settings):
        print(f"--- ego {pair[0]}, others {pair[1]}")
        print_report(report)
        reports[pair] = report
    average = write_average(reports, options.output_dir or options.model_dir)
    print("\n".join(["", *lines_of(average.rows, COLUMNS), *(f"wrote {file}" for file in average.files)]))


if __name__ == "__main__":
    run(main)
