"""Arguments and main function that the training tools share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from opencood.tools._cli import Parser, at_least
from opencood.tools._perturb_arguments import add_perturbations, take_perturbations


def parser(description: str | None) -> Parser:
    """All arguments: names of the published tools, then ours."""
    made = Parser(description=description)
    made.add_argument("-y", "--hypes_yaml", required=True, help="hypes file; not read with --model_dir (give None)")
    made.add_argument("--model_dir", default="", help="run folder to continue, or one with only a config.yaml")
    made.add_argument("-f", "--fusion_method", help="of the test after training; default: the configuration's")
    made.add_argument(
        "--half", nargs="?", const="auto", choices=("auto", "bf16", "fp16"), help="half precision in the forward pass"
    )
    made.add_argument("--dist_url", default="env://", help="where distributed processes meet")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    made.add_argument(
        "--pretrained_model_dir", default="", help="run folder or checkpoint to start from; replaces init_from.path"
    )
    made.add_argument(
        "--subset", type=float, default=-1, help="share of the training frames to use, -1: all; see label_fraction"
    )
    made.add_argument("--seed", type=at_least(0), help="replaces the configuration's seed")
    made.add_argument("--workers", type=at_least(0), help="loader processes of each kind, 0: none")
    made.add_argument("--no_eval", action="store_true", help="no test after training")
    made.add_argument(
        "--overfit", type=at_least(1), metavar="N", help="learn N frames by heart and list what cannot be reached"
    )
    made.add_argument(
        "--overfit_steps", type=at_least(1), default=2000, metavar="STEPS", help="give up after so many steps"
    )
    add_perturbations(made, when="train")
    return made


def train(description: str | None, argv: Sequence[str] | None, **choices: bool) -> int:
    """Parse and train; returns the exit code. ``choices`` as in :func:`run_given`."""
    made = parser(description)
    return run_given(made, made.parse_args(argv), **choices)


def run_given(
    made: Parser,
    given: argparse.Namespace,
    distil: bool = False,
    balance: bool = False,
    pairs: bool = False,
    transfer: bool = False,
    test_afterwards: bool = True,
) -> int:
    """Train as the parsed arguments say; returns the exit code.

    Args:
        distil: a configuration without a teacher is refused.
        balance: sets ``train_params.data_balance``.
        pairs: CodeAlign's detectors are tested on pairs of modalities.
        transfer: a configuration that does not say what it starts from is refused.
        test_afterwards: test on the test split, unless ``--no_eval`` says no.
    """
    perturb = take_perturbations(made, vars(given))
    from opencood.experiments.training import TrainingOptions, run_training

    options = TrainingOptions(
        fusion_method=given.fusion_method,
        device=given.device,
        half=given.half,
        dist_url=given.dist_url,
        seed=given.seed,
        workers=given.workers,
        evaluate=test_afterwards and not given.no_eval,
        perturb=perturb,
        distil=distil,
        balance=balance,
        pairs=pairs,
        init_from=given.pretrained_model_dir or None,
        label_fraction=None if given.subset == -1 else given.subset,
        transfer=transfer,
    )
    if given.overfit is not None:
        from opencood.experiments.overfit import run_overfit

        report = run_overfit(given.hypes_yaml, given.model_dir or None, given.overfit, given.overfit_steps, options)
        print("\n".join(report.lines()))
        return 0 if report.reached else 1
    run_dir = run_training(given.hypes_yaml, given.model_dir or None, options)
    print(f"Training finished: {Path(run_dir)}")
    return 0
