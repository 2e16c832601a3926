#!/usr/bin/env python
"""Simulate a cooperative perception data set: a town, its traffic, and what each agent's sensors measure.

Written to the folder where published YAML files look for the data set, it is read by them without edits:

  python opencood/tools/simulate.py --out dataset/OPV2V --stats
  python opencood/tools/simulate.py --format v2xset --out dataset/V2XSET
  python opencood/tools/simulate.py --format v2xsim --out dataset/v2xsim2_info
  python opencood/tools/simulate.py --format dairv2x --out dataset/my_dair_v2x/v2x_c/cooperative-vehicle-infrastructure
  python opencood/tools/simulate.py --format v2xreal --out dataset/V2XREAL
  python opencood/tools/simulate.py --format v2v4real --out dataset/V2V4REAL
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.simulate import (
    MANIFEST,
    SimulationOptions,
    format_help,
    preset_help,
    simulate,
    statistics_table,
)
from opencood.tools._cli import Parser, run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make, in the layout of the format")
    parser.add_argument("--preset", default="small", help=f"{preset_help()} (default: small)")
    parser.add_argument(
        "--scenarios",
        type=_numbers,
        metavar="N[,N,N]",
        help="scenarios of train (others in proportion), or train,validate,test",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="frames per scenario")
    parser.add_argument("--stride", type=int, metavar="N", help="tenths of a second from frame to frame")
    parser.add_argument(
        "--agents",
        type=_interval,
        metavar="A-B",
        help="connected cars per scenario, such as 2-5 or 3; v2xreal and v2v4real have 2, dairv2x 1",
    )
    parser.add_argument("--rsu", action="store_true", help="add a roadside unit (opv2v, v2xsim)")
    parser.add_argument("--beams", type=int, help="LiDAR beams: 16, 32 or 64")
    parser.add_argument("--sensor_height", type=float, metavar="M", help="of the cars' LiDARs, metres (default: 1.9)")
    parser.add_argument("--roads", metavar="TYPE", help="mixed, streets, forks or avenues (default: mixed)")
    parser.add_argument(
        "--cameras",
        action="store_true",
        help="four cameras per agent, with depth pictures and maps of what they see (default: LiDAR only)",
    )
    parser.add_argument(
        "--image_size",
        type=_size,
        metavar="WxH",
        help="pixels of the pictures (default: the preset's, 320x240 for mini and small, 800x600 for opv2v)",
    )
    parser.add_argument(
        "--fov", type=float, metavar="DEG", help="horizontal field of view of the cameras (default: 100)"
    )
    parser.add_argument(
        "--extra_beams",
        type=_numbers,
        default=(),
        metavar="N[,N]",
        help="further clouds of LiDARs with 32 and 16 beams, such as 32,16",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same content (default: 0)")
    parser.add_argument("--format", default="opv2v", help=f"data set format: {format_help()} (default: opv2v)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier simulation in --out")
    parser.add_argument(
        "--stats", action="store_true", help="print what the test split is like, and what only collaboration sees"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate and print where the data set is, its size and its fingerprint."""
    options = SimulationOptions(**vars(parse(argv)))
    report = simulate(options)
    if report.statistics:
        print(statistics_table(report.statistics))
    frames = ", ".join(f"{split} {count}" for split, count in report.frames.items())
    print(
        f"{report.out}: frames {frames}; {report.bytes / 1e6:.0f} MB in {report.seconds:.1f} s; details in {MANIFEST}"
    )
    print(f"content digest {report.digest}")


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers of "20" or "20,4,10"."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers such as 20 or 20,4,10, found '{text}'") from error


def _size(text: str) -> tuple[int, int]:
    """Width and height of "320x240"."""
    try:
        width, height = (int(number) for number in text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a size such as 320x240, found '{text}'") from error
    return width, height


def _interval(text: str) -> tuple[int, int]:
    """Both ends of "2-5" or "3"."""
    low, dash, high = text.partition("-")
    try:
        return int(low), int(high if dash else low)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a range such as 2-5, or a number, found '{text}'") from error


if __name__ == "__main__":
    run(main)
