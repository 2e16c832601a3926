"""Read a recipe file, and say what is wrong with it before anything runs (what its words mean: ``recipe.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opencood.config.inheritance import BASE
from opencood.config.tree import overlaid
from opencood.errors import ConfigError, DataError, nearest
from opencood.evaluation.files import read_yaml
from opencood.experiments.evaluate import parse_bands
from opencood.experiments.recipe import TRAINED, Picture, Recipe, Stage
from opencood.experiments.recipe_tests import rows_of
from opencood.experiments.run_places import LOGS

TOP = (
    *("name", "title", "out", "seeds", "data", "set", "stages"),
    *("compare", "parameters", "pictures", "measured", "bands", "shrink"),
)
# Kind of stage -> the keys it may have besides its own.
KINDS: dict[str, tuple[str, ...]] = {
    "simulate": (),
    "train": ("data", "set", "start", "take", "rename", "weights", "half", "workers", "device", "seeds"),
    "merge": ("hypes", "rename", "data", "set", "seeds"),
    "assemble": ("weights", "data", "set", "seeds"),
    "infer": ("in_order", "lidar_degrade", "pairs", "method", "truth", "threshold_from", "options", "seeds"),
}


def read_recipe(file: Path, out: Path | None = None, seeds: Sequence[int] | None = None) -> Recipe:
    """Read and check a recipe; ``out`` and ``seeds`` replace its own.

    Raises:
        ConfigError: it is missing or no map, or a key, a kind or a name in it is wrong.
    """
    content = _content(file)
    _known(content, TOP, str(file))
    name = str(content.get("name", file.stem))
    recipe = Recipe(
        file=file,
        name=name,
        out=out or Path(str(content.get("out", LOGS / name))),
        seeds=tuple(seeds) if seeds else _seeds(content.get("seeds", [0]), file),
        stages=_stages(content.get("stages"), file),
        data=None if content.get("data") is None else str(content["data"]),
        changes=_map(content.get("set") or {}, f"{file}: set"),
        compare=tuple(_pair(pair, file) for pair in content.get("compare", ())),
        title=str(content.get("title", name)),
        parameters={str(k): tuple(v) for k, v in _map(content.get("parameters") or {}, f"{file}: parameters").items()},
        measured={str(k): float(v) for k, v in _map(content.get("measured") or {}, f"{file}: measured").items()},
        pictures=_pictures(content.get("pictures") or {}, f"{file}: pictures"),
        bands=content.get("bands"),
        shrink=_flag(content.get("shrink", False), f"{file}: shrink"),
    )
    parse_bands(recipe.bands)
    for stage in recipe.stages.values():
        if stage.kind in TRAINED:
            recipe.hypes_file(stage.hypes)
    for name in (name for names in recipe.parameters.values() for name in names):
        if name not in recipe.stages or recipe.stages[name].kind != "train":
            raise ConfigError(f"{file}: parameters: '{name}' is no training.{nearest(name, recipe.stages)}")
    _check_rows(recipe)
    return recipe


def _check_rows(recipe: Recipe) -> None:
    """Whether the tests give the rows that are compared and drawn, before anything runs."""
    tests = [stage for stage in recipe.stages.values() if stage.kind == "infer"]
    rows = [row for stage in tests for row in rows_of(stage)]
    over_pairs = [stage.method for stage in tests if stage.pairs]
    named = [("compare", row, [*rows, *over_pairs]) for pair in recipe.compare for row in pair]
    for name, picture in recipe.pictures.items():
        named += [(f"pictures.{name}", row, rows) for row_at in picture.curves.values() for row in row_at.values()]
    for place, row, known in named:
        if row not in known:
            raise ConfigError(f"{recipe.file}: {place}: no row '{row}'.{nearest(row, known)} Rows: {', '.join(known)}.")


def _pictures(content: Any, where: str) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
    for name, spec in _map(content, where).items():
        place = f"{where}.{name}"
        _known(_map(spec, place), ("across", "curves"), place)
        curves = {str(k): _map(rows, f"{place}.curves.{k}") for k, rows in _map(spec.get("curves"), place).items()}
        words = {type(at) is str for rows in curves.values() for at in rows}
        if "across" not in spec or len(words) != 1 or Path(str(name)).name != str(name):
            raise ConfigError(f"{place}: expected across, and curves such as {{GenComm: {{1: row, 2: row}}}}, all of "
                              "them over numbers or all over words.")  # fmt: skip
        rows_of: dict[str, dict[float | str, str]] = {
            curve: {at: str(row) for at, row in rows.items()} for curve, rows in curves.items()
        }
        pictures[str(name)] = Picture(str(spec["across"]), rows_of)
    return pictures


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{place}: expected true or false, found {value!r}.")
    return value


def _content(file: Path, heirs: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a file says, laid over the recipe that it names under ``_base_``."""
    if file.resolve() in heirs:
        raise ConfigError(f"{heirs[0]}: {BASE} leads back to {file}.")
    try:
        content = read_yaml(file)
    except DataError as error:
        words = " ".join(str(error).split())
        raise ConfigError(f"{words} A recipe is a map with the keys {', '.join(TOP)}.") from error
    base = content.pop(BASE, None)
    if base is None:
        return content
    return overlaid(_content(file.parent / str(base), (*heirs, file.resolve())), content)


def _stages(content: Any, file: Path) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    for name, spec in _map(content, f"{file}: stages").items():
        stages[str(name)] = _stage(str(name), _map(spec, f"{file}: stages.{name}"), stages, file)
    if not stages:
        raise ConfigError(f"{file}: stages: there is none.")
    return stages


def _stage(name: str, spec: Mapping[str, Any], earlier: Mapping[str, Stage], file: Path) -> Stage:
    where = f"{file}: stages.{name}"
    kinds = [kind for kind in KINDS if kind in spec]
    if len(kinds) != 1 or Path(name).name != name:
        raise ConfigError(f"{where}: expected one of {', '.join(KINDS)} (found {', '.join(kinds) or 'none'}).")
    stage = Stage(name, kinds[0], spec)
    _known(spec, (stage.kind, *KINDS[stage.kind]), where)
    if stage.kind == "merge" and ("hypes" not in spec or not stage.needs):
        raise ConfigError(f"{where}: merge needs the list of runs, the base last, and 'hypes' of the merged detector.")
    if stage.kind == "infer":
        _check_test(stage, earlier, where)
    if "seeds" in spec:
        _seeds(spec["seeds"], file)
    for need in stage.needs:
        _check_need(need, stage, earlier, where, file)
    return stage


def _check_test(stage: Stage, earlier: Mapping[str, Stage], where: str) -> None:
    if len(stage.starts) != 1:
        raise ConfigError(f"{where}: infer takes one stage or run folder.")
    pairs = stage.spec.get("pairs", [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) in (1, 2) for pair in pairs):
        raise ConfigError(f"{where}: pairs: expected pairs such as [m1, m2], or [m1] for an ego alone.")
    if stage.pairs and ("in_order" in stage.spec or stage.spec.get("lidar_degrade")):
        raise ConfigError(f"{where}: pairs and in_order are two ways to test; make a stage of each.")
    if "threshold_from" in stage.spec and stage.spec["threshold_from"] not in ("validate", "train"):
        raise ConfigError(f"{where}: threshold_from: expected validate or train, never the split that is tested.")
    tested = {other.method for other in earlier.values() if other.kind == "infer"}
    if "truth" in stage.spec and stage.spec["truth"] not in tested:
        raise ConfigError(f"{where}: truth: '{stage.spec['truth']}' is no method tested before.")


def _check_need(need: str, stage: Stage, earlier: Mapping[str, Stage], where: str, file: Path) -> None:
    if need in earlier:
        if earlier[need].kind not in TRAINED:
            raise ConfigError(f"{where}: '{need}' makes no weights (it is a stage of kind {earlier[need].kind}).")
        limited = earlier[need].spec.get("seeds")
        if limited is not None and not set(stage.spec.get("seeds", [None])) <= set(limited):
            raise ConfigError(f"{where}: '{need}' is made for the seeds {limited} only; give this stage seeds, too.")
    elif not Path(need).is_dir() and not (file.parent / need).is_dir():
        raise ConfigError(f"{where}: '{need}' is neither an earlier stage nor a run folder.{nearest(need, earlier)}")


def _known(content: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in content:
        if key not in valid:
            raise ConfigError(f"{where}: unknown key '{key}'.{nearest(str(key), valid)} Valid: {', '.join(valid)}.")


def _map(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a map.")
    return value


def _seeds(value: Any, file: Path) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{file}: seeds: expected different whole numbers from 0, found {value}.")
    return tuple(seeds)


def _pair(value: Any, file: Path) -> tuple[str, str]:
    if not (isinstance(value, list) and len(value) == 2):
        raise ConfigError(f"{file}: compare: expected pairs of rows such as [test 2, test 1], found {value}.")
    return str(value[0]), str(value[1])
