#!/usr/bin/env python
"""Evaluate a trained detector under growing pose noise and write the summary AP030507.yaml."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools.inference import common_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print one line per level."""
    parser = common_parser(__doc__)
    parser.add_argument("--also_laplace", action="store_true", help="a second sweep with Laplace noise")
    arguments = parse(parser, argv)
    also_laplace = arguments.pop("also_laplace")
    from opencood.experiments.noise import run_noise_sweep
    from opencood.experiments.session import InferenceOptions

    for sweep in run_noise_sweep(InferenceOptions(**arguments), also_laplace):
        print(f"{'Laplace' if sweep.laplace else 'Gaussian'} pose noise")
        for level, report in sweep.reports.items():
            marks = ", ".join(f"AP@{threshold:g} {report.ap(threshold):.4f}" for threshold in (0.3, 0.5, 0.7))
            print(f"  {level:g} m, {level:g} degrees: {marks}")
        for file in sweep.files:
            print(f"wrote {file}")


if __name__ == "__main__":
    run(main)
