#!/usr/bin/env python
"""Evaluate detectors under growing disturbance: one factor at a time, or with --grid every combination.

  python opencood/tools/sweep.py --model_dir RUN_A RUN_B --pose_std 0:0.6:0.2 --delay 0,1,3 --drop 0,0.05,0.2 \
      --agents 1-4 --weather clear,fog,snow

Detections are kept in --out; the same command goes on where it stopped, and evaluates only what is missing. Written are
table.csv, table.md, table.tex, and a picture of AP against every factor and against bandwidth.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, run

FACTORS = {
    "pose_std": "standard deviation of the pose error, metres and degrees alike: 0:0.6:0.2",
    "delay": "age of messages in frames of 0.1 s: 0,1,3",
    "drop": "share of messages that are lost: 0,0.05,0.2",
    "bit_error": "probability of a wrong bit: 0,1e-6,1e-5",
    "precision": "values on the wire: float32,int16,int8",
    "budget": "kilobytes that a message may have: 5,20,80",
    "agents": "so many agents take part: 1-4",
    "weather": "clear,fog,snow; or fog:60 (visibility, m), snow:2 (mm/h)",
}

# Besides the factors, what the published command says.
NAMED = ("fusion_method", "test_dir", "range", "limit", "parity")
FLAGS = ("grid", "in_order")
SHARED = ("fusion_method", "test_dir", "limit", "parity", "seed", "device", "workers")


def parser() -> Parser:
    """All arguments."""
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model_dir", nargs="+", action="extend", required=True, type=Path, help="run folders")
    made.add_argument("--names", nargs="+", help="what they are called in the table; default: their folders' names")
    made.add_argument("--out", type=Path, help="default: opencood/logs/sweep_<names>")
    group = made.add_argument_group("factors", "lists (0,1,3), ranges with both ends (0:0.6:0.2), whole numbers (1-4)")
    for name, meaning in FACTORS.items():
        group.add_argument(f"--{name}", metavar="VALUES", help=meaning)
    made.add_argument("--grid", action="store_true", help="every combination of values")
    made.add_argument(
        "--in_order",
        action="store_true",
        help="agents enter by modality, m1 first, as in inference_heter_in_order.py",
    )
    made.add_argument("--fusion_method", help="default: what each configuration trains")
    made.add_argument("--test_dir", metavar="FOLDER", help="test on another split than the configuration's")
    made.add_argument("--range", metavar="X,Y", help="detection range in metres; default: the configuration's")
    made.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N frames")
    made.add_argument("--parity", choices=("published", "fixed"), help="default: the configuration's")
    made.add_argument("--seed", type=at_least(0), default=303, help="of everything that is drawn")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
    made.add_argument("--workers", type=at_least(0), default=4, help="loader processes (at most one per core), 0: none")
    made.add_argument("--publish", type=Path, metavar="FOLDER", help="keep table, pictures and how they were made")
    made.add_argument("--title", default="Under growing disturbance", help="heads the published table")
    made.add_argument("--remark", default="", metavar="TEXT", help="what a reader of the published table must know")
    made.add_argument("--dry-run", action="store_true", help="list what would be evaluated")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, evaluate what is missing, write tables and pictures; the exit code is 1 when a condition failed."""
    given = parser().parse_args(argv)
    from opencood.experiments.run_places import LOGS
    from opencood.experiments.session import InferenceOptions
    from opencood.experiments.sweep import Sweep, names_of
    from opencood.experiments.sweep_factors import name_of, parse_values
    from opencood.experiments.sweep_output import summary, write

    runs = names_of(given.model_dir, given.names)
    values = {name: parse_values(name, text) for name in FACTORS if (text := getattr(given, name)) is not None}
    options = InferenceOptions(
        model_dir=given.model_dir[0],
        range_xy=given.range,
        save_vis_interval=0,
        **{name: getattr(given, name) for name in SHARED},
    )
    sweep = Sweep(runs, values, given.out or LOGS / f"sweep_{'_'.join(runs)}", options, given.grid, given.in_order)
    if given.dry_run:
        print("\n".join(f"{name}: {name_of(condition)}" for name, _, condition in sweep.plan()))
        return 0
    rows = sweep.run()
    print("\n".join(summary(rows, list(values))))
    files = write(rows, list(values), sweep.out)
    print("\n".join(f"wrote {file}" for file in files))
    if given.publish:
        print(f"kept in {_publish(given, list(runs), files, sweep.seconds)}")
    print("\n".join(f"failed: {problem}" for problem in sweep.failed), end="\n" * bool(sweep.failed))
    return int(bool(sweep.failed))


def _publish(given: argparse.Namespace, names: Sequence[str], files: Sequence[Path], seconds: float) -> Path:
    from opencood.experiments.published import TABLE, keep_files, keep_table

    chosen = [f"--{name} {text}" for name in (*FACTORS, *NAMED) if (text := getattr(given, name)) is not None]
    chosen += [f"--{name}" for name in FLAGS if getattr(given, name)]
    runs = " ".join(shlex.quote(str(folder)) for folder in given.model_dir)
    command = " ".join(
        ["python opencood/tools/sweep.py --model_dir", runs, "--names", *map(shlex.quote, names), *chosen]
    )
    (table,) = (file for file in files if file.name == TABLE)
    besides = {"remark": given.remark} if given.remark else {}
    keep_table(given.publish, given.title, command, seconds, [given.seed], table.read_text(), **besides)
    keep_files([file for file in files if file.suffix in (".csv", ".png")], given.publish)
    return given.publish


if __name__ == "__main__":
    run(main)
