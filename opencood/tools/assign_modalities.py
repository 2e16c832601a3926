#!/usr/bin/env python
"""Make a table of modalities for a data set, or explain who is what in a scene.

Examples:
  python opencood/tools/assign_modalities.py make dataset/OPV2V --out my_assignment.json --shares m1=2 m2=1
  python opencood/tools/assign_modalities.py explain opencood/modality_assign/opv2v_4modality.json --mapping m1=m1 m2=m1
  python opencood/tools/assign_modalities.py explain -y my_hypes.yaml --scenario 2021_08_18_19_48_05
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.config.loader import load_file
from opencood.experiments import modality_tables as tables
from opencood.tools._cli import Parser, run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make | explain")
    make = commands.add_parser("make", help="write a table for a data set")
    make.add_argument("root", type=Path, metavar="ROOT", help="data set or split")
    make.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file for heter.assignment_path")
    make.add_argument("--format", metavar="NAME", help="data set format (default: recognised)")
    make.add_argument(
        "--modalities", nargs="+", default=["m1", "m2", "m3", "m4"], metavar="M", help="what agents can be"
    )
    make.add_argument(
        "--order", choices=[tables.RANDOM, tables.IN_ORDER], default=tables.RANDOM,
        help="random: a permutation for every scenario; in_order: the modalities as given; both dealt in turn",
    )  # fmt: skip
    make.add_argument("--shares", nargs="+", type=_share, default=[], metavar="M=WEIGHT", help="shares over all agents")
    make.add_argument("--seed", type=int, default=0, help="the same seed gives the same table (default: 0)")
    make.add_argument("--split", nargs="+", default=[], metavar="NAME", help="only these, such as test (default: all)")
    explain = commands.add_parser("explain", help="say who is what")
    explain.add_argument("table", type=Path, nargs="?", metavar="TABLE", help="default: that of the configuration")
    explain.add_argument("-y", "--hypes_yaml", type=Path, metavar="FILE", help="configuration with a heter section")
    explain.add_argument("--mapping", nargs="+", type=_pair, default=[], metavar="A=B", help="instead of mapping_dict")
    explain.add_argument("--ego", default="", metavar="M[&M]", help="instead of ego_modality (without -y: m1)")
    explain.add_argument("--scenario", nargs="+", metavar="NAME", help="only these (default: all)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Make or explain."""
    options = parse(argv)
    if options.command == "make":
        _make(options)
    else:
        _explain(options)


def _make(options: argparse.Namespace) -> None:
    table = tables.make_table(
        tables.TableOptions(
            root=options.root,
            modalities=tuple(options.modalities),
            order=options.order,
            shares=dict(options.shares),
            seed=options.seed,
            format=options.format,
            splits=tuple(options.split),
        )
    )
    tables.write_table(options.out, table)
    print(f"{options.out}: {len(table)} scenarios; {_counted(tables.counts(table))}")


def _explain(options: argparse.Namespace) -> None:
    hypes = None if options.hypes_yaml is None else load_file(options.hypes_yaml)
    table = None if options.table is None else tables.read_table(options.table)
    roster = tables.roster_of(hypes, table, dict(options.mapping), options.ego)
    shown = options.scenario or list(roster.assignment or {})
    for scenario in shown:
        print(scenario)
        for place in tables.explain(roster, scenario, hypes):
            network = f"  ({place.network})" if place.network else ""
            print(f"  {place.agent:>8}  {place.assigned} -> {place.modality or '-':<4} {place.role}{network}")
    print(f"{len(shown)} scenarios; the table has {_counted(tables.counts(roster.assignment or {}))}")


def _counted(found: dict[str, int]) -> str:
    total = sum(found.values())
    return ", ".join(f"{name} {count} ({count / total:.0%})" for name, count in found.items())


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"expected A=B, found '{text}'")
    return name, value


def _share(text: str) -> tuple[str, float]:
    name, value = _pair(text)
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number after {name}=, found '{value}'") from error


if __name__ == "__main__":
    run(main)
