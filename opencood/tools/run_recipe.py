#!/usr/bin/env python
"""Run the stages of recipes that are missing (simulate, train, merge, infer), and print the tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, run


def parser() -> Parser:
    """All arguments."""
    made = Parser(description=__doc__)
    made.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE.yaml", help="see opencood/recipes/sim_heal.yaml")
    made.add_argument(
        "--out",
        type=Path,
        help="folder of all runs, of several recipes one below it each; default: the recipe's, or opencood/logs/<name>",
    )
    made.add_argument("--seeds", type=at_least(0), nargs="+", metavar="S", help="replace the recipe's seeds")
    made.add_argument("--publish", type=Path, metavar="FOLDER", help="keep the table and how it was made")
    made.add_argument("--remark", default="", metavar="TEXT", help="what a reader of the published table must know")
    made.add_argument("--dry-run", action="store_true", help="say what would run and why, and run nothing")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print; with several recipes also how long each took."""
    given = parser().parse_args(argv)
    seconds = {}
    for recipe in given.recipes:
        if len(given.recipes) > 1:
            print(f"== {recipe}", flush=True)
        started = perf_counter()
        _run(recipe, given)
        seconds[recipe] = perf_counter() - started
    if len(seconds) > 1:
        print("\n".join(["", *(f"{taken:6.0f} s  {recipe}" for recipe, taken in seconds.items())]))


def _run(file: Path, given: argparse.Namespace) -> None:
    from opencood.experiments.recipe_file import read_recipe
    from opencood.experiments.recipe_run import Runner

    out = given.out / file.stem if given.out and len(given.recipes) > 1 else given.out
    runner = Runner(read_recipe(file, out, given.seeds))
    if given.dry_run:
        print("\n".join(runner.describe()))
        return
    print("\n".join(runner.run().lines()))
    if given.publish:
        from opencood.experiments.published import keep_recipe

        print(f"kept in {keep_recipe(runner, given.publish, given.remark)}")


if __name__ == "__main__":
    run(main)
