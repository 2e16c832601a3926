#!/usr/bin/env python
"""Evaluate a camera detector twice, with its own pictures and with those of other frames, which should find nothing."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools.inference import common_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print one line per kind of pictures."""
    arguments = parse(common_parser(__doc__), argv)
    from opencood.experiments.camera_control import run_camera_control
    from opencood.experiments.session import InferenceOptions

    for name, report in run_camera_control(InferenceOptions(**arguments)).items():
        marks = ", ".join(f"AP@{threshold:g} {report.ap(threshold):.4f}" for threshold in (0.3, 0.5, 0.7))
        print(f"{name}: {marks} ({report.frames} frames, {report.ground_truths} objects)")


if __name__ == "__main__":
    run(main)
