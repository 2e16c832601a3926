#!/usr/bin/env python
"""Evaluate a trained detector on the test split: average precision, bandwidth, speed, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._channel_arguments import add_channel, take_channel
from opencood.tools._cli import Parser, at_least, run
from opencood.tools._perturb_arguments import add_perturbations, take_perturbations

if TYPE_CHECKING:
    from opencood.experiments.inference import Report


EVERY_FRAME = ("save_vis", "show_vis", "show_sequence")


def parser() -> Parser:
    """All arguments; names and defaults of the published tool, then ours."""
    made = common_parser(__doc__)
    made.add_argument("--save_npy", action="store_true", help="write npy/<frame>_{pcd,pred,gt}.npy into the run folder")
    made.add_argument("--range", metavar="X,Y", help="detection range in metres; default: the configuration's")
    made.add_argument("--no_score", action="store_true", help="pictures without scores")
    for name in EVERY_FRAME:
        made.add_argument(
            f"--{name}", action="store_true", help="CooPre's name of --save_vis_interval 1; no window opens"
        )
    return made


def common_parser(description: str | None) -> Parser:
    """What inference tools share."""
    made = Parser(description=description)
    made.add_argument("--model_dir", required=True, type=Path, help="run folder with config.yaml and checkpoints")
    made.add_argument(
        "--fusion_method",
        help="single, no (nofusion), late, early, intermediate or late_heter; default: what the configuration trains",
    )
    made.add_argument(
        "--save_vis_interval", type=at_least(0), default=40, metavar="N", help="a picture every N frames, 0: none"
    )
    made.add_argument(
        "--save_detections",
        type=Path,
        metavar="FILE.npz",
        help="keep all boxes, see tools/evaluate.py; one file each where several evaluations are made",
    )
    made.add_argument("--bands", metavar="A-B,B-C", help="AP by distance from the ego too, in metres; or: published")
    made.add_argument("--note", default="", help="appended to the method in file names")
    made.add_argument("--agents", metavar="ego|k|1..k", help="only these agents take part; ground truth of all")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    made.add_argument("--workers", type=at_least(0), default=4, help="loader processes (at most one per core), 0: none")
    made.add_argument(
        "--epoch", type=at_least(1), metavar="N", help="of the checkpoint; default: the best, or the latest"
    )
    made.add_argument(
        "--test_dir", metavar="FOLDER", help="test on another split, such as dataset/OPV2V/test_culver_city"
    )
    made.add_argument(
        "--dataset_mode", metavar="MODE", help="V2X-Real: vc, v2v, ic or i2i; default: the configuration's"
    )
    made.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N frames")
    made.add_argument("--parity", choices=("published", "fixed"), help="default: the configuration's")
    made.add_argument("--seed", type=at_least(0), default=303, help="seed of pose noise and other draws")
    made.add_argument("--untrained", action="store_true", help="go on without a checkpoint, with random weights")
    add_channel(made)
    add_perturbations(made, when="test")
    return made


def parse(made: Parser, argv: Sequence[str] | None) -> dict[str, Any]:
    """The arguments as ``InferenceOptions`` and the tool itself name them."""
    arguments = vars(made.parse_args(argv))
    return arguments | {"channel": take_channel(arguments), "perturb": take_perturbations(made, arguments)}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the report."""
    arguments = parse(parser(), argv)
    wanted = [arguments.pop(name) for name in EVERY_FRAME]
    if any(wanted):
        arguments["save_vis_interval"] = 1
    from opencood.experiments.inference import InferenceOptions, run_inference

    print_report(run_inference(InferenceOptions(range_xy=arguments.pop("range"), **arguments)))


def print_report(report: Report) -> None:
    """What an evaluation found, and where it wrote it."""
    print("\n".join([*report.lines(), *(f"wrote {file}" for file in report.files)]))


if __name__ == "__main__":
    run(main)
