#!/usr/bin/env python
"""Run the stages of a recipe that are missing (simulate, train, merge, infer), and print the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, run


def parser() -> Parser:
    """All arguments."""
    made = Parser(description=__doc__)
    made.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="see opencood/recipes/sim_heal.yaml")
    made.add_argument("--out", type=Path, help="folder of all runs; default: the recipe's, or opencood/logs/<name>")
    made.add_argument("--seeds", type=at_least(0), nargs="+", metavar="S", help="replace the recipe's seeds")
    made.add_argument("--publish", type=Path, metavar="FOLDER", help="keep the table and how it was made")
    made.add_argument("--remark", default="", metavar="TEXT", help="what a reader of the published table must know")
    made.add_argument("--dry-run", action="store_true", help="say what would run and why, and run nothing")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    given = parser().parse_args(argv)
    from opencood.experiments.recipe import read_recipe
    from opencood.experiments.recipe_run import Runner

    runner = Runner(read_recipe(given.recipe, given.out, given.seeds))
    if given.dry_run:
        print("\n".join(runner.describe()))
        return
    print("\n".join(runner.run().lines()))
    if given.publish:
        from opencood.experiments.published import keep_recipe

        print(f"kept in {keep_recipe(runner, given.publish, given.remark)}")


if __name__ == "__main__":
    run(main)
