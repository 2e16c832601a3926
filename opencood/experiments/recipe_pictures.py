"""Pictures of a recipe's table: AP@0.5 of rows over what they differ in, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opencood.evaluation.bootstrap import Interval
from opencood.experiments.recipe import Picture, Recipe
from opencood.experiments.recipe_table import COMPARED, Table
from opencood.visualization.charts import Curve, draw_curves


def picture_files(recipe: Recipe) -> list[Path]:
    """The files that :func:`draw_pictures` writes, for a table that has rows."""
    return [recipe.out / f"{name}.png" for name in recipe.pictures]


def draw_pictures(recipe: Recipe, table: Table) -> None:
    """Write the pictures of a table beside it; a panel for all objects, and one for each distance.

    Places whose tests are left out by the chosen seeds are left out.
    """
    if not table.rows:
        return
    all_objects = {row.label: row.ap[COMPARED] for row in table.rows}
    for picture, file in zip(recipe.pictures.values(), picture_files(recipe), strict=True):
        panels = {picture.across: _curves(picture, all_objects)}
        for distance, rows in table.distances.items():
            panels[f"{picture.across}\n{distance}"] = _curves(picture, rows)
        draw_curves(panels, file, height=f"AP@{COMPARED:g}", marked=True)


def _curves(picture: Picture, rows: Mapping[str, Interval]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for curve, row_at in picture.curves.items():
        shown = {at: rows[row] for at, row in row_at.items() if row in rows}
        if shown:
            curves[curve] = (list(shown), [(one.value, one.lower, one.upper) for one in shown.values()])
    return curves
