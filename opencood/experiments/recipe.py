"""A recipe: the stages of an experiment, with their hypes and with whose weights each begins.

A recipe is a YAML map (see ``opencood/recipes``)::

    name: heal                      # also the default of out: opencood/logs/<name>
    title: HEAL on simulated data   # heads its table where it is published; default: the name
    seeds: [0, 1]                   # every training with each; one by default
    data: world                     # folder with train, validate, test, or a stage that simulates; else what hypes say
    set: {train_params: {...}}      # keys that replace those of every hypes file
    stages:
      world: {simulate: {preset: small}}
      base:  {train: stage1.yaml}
      m3:    {train: stage2.yaml, start: base}             # begins with these weights; a list is merged, the last wins
      final: {merge: [m3, base], hypes: final.yaml}        # the collaboration base last
      test:  {infer: final, in_order: [1, 2]}              # without in_order: all agents together
    compare: [[test 2, test 1]]     # differences of rows of the table, with intervals

Stages come in the order in which they run; each names only earlier ones, or existing run folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opencood.config.flavor import SHIPPED
from opencood.errors import ConfigError, nearest
from opencood.experiments.run_places import LOGS

TOP = ("name", "title", "out", "seeds", "data", "set", "stages", "compare")
# Kind of stage -> the keys it may have besides its own.
KINDS: dict[str, tuple[str, ...]] = {
    "simulate": (),
    "train": ("data", "set", "start", "take", "rename", "half", "workers", "device"),
    "merge": ("hypes", "data", "set"),
    "infer": ("in_order", "lidar_degrade", "options"),
}


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its kind, and what the recipe says about it."""

    name: str
    kind: str
    spec: Mapping[str, Any]

    @property
    def subject(self) -> Any:
        """What stands behind the kind: a hypes file, the merged runs, the tested run, the simulation's options."""
        return self.spec[self.kind]

    @property
    def needs(self) -> list[str]:
        """Whose weights it takes, in order: names of stages or run folders."""
        named = {"train": self.spec.get("start"), "merge": self.subject, "infer": self.subject}.get(self.kind)
        return [] if named is None else [named] if isinstance(named, str) else [str(name) for name in named]

    @property
    def per_seed(self) -> bool:
        """Whether every seed has its own; simulated data are common to all."""
        return self.kind != "simulate"


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; ``file`` is where it was read from."""

    file: Path
    name: str
    out: Path
    seeds: tuple[int, ...]
    stages: Mapping[str, Stage]
    data: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()
    title: str = ""

    def stage(self, name: str) -> Stage | None:
        """The stage of a name, or None when it names a run folder."""
        return self.stages.get(name)

    def hypes_file(self, text: str) -> Path:
        """A hypes file: beside the recipe, in the working directory, or among the shipped ones.

        Raises:
            ConfigError: it is in none of them.
        """
        places = (self.file.parent / text, Path(text), SHIPPED / text)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ConfigError(f"{self.file}: no hypes file '{text}' (looked for {', '.join(map(str, places))}).")
        return found


def read_recipe(file: Path, out: Path | None = None, seeds: Sequence[int] | None = None) -> Recipe:
    """Read and check a recipe; ``out`` and ``seeds`` replace its own.

    Raises:
        ConfigError: it is missing or no map, or a key, a kind or a name in it is wrong.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as a recipe: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a recipe is a map with the keys {', '.join(TOP)}.")
    _known(content, TOP, str(file))
    name = str(content.get("name", file.stem))
    recipe = Recipe(
        file=file,
        name=name,
        out=out or Path(str(content.get("out", LOGS / name))),
        seeds=tuple(seeds) if seeds else _seeds(content.get("seeds", [0]), file),
        stages=_stages(content.get("stages"), file),
        data=None if content.get("data") is None else str(content["data"]),
        changes=_map(content.get("set", {}), f"{file}: set"),
        compare=tuple(_pair(pair, file) for pair in content.get("compare", ())),
        title=str(content.get("title", name)),
    )
    for stage in recipe.stages.values():
        if stage.kind in ("train", "merge"):
            recipe.hypes_file(str(stage.spec["hypes"] if stage.kind == "merge" else stage.subject))
    return recipe


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
    if stage.kind == "infer" and len(stage.needs) != 1:
        raise ConfigError(f"{where}: infer takes one stage or run folder.")
    for need in stage.needs:
        _check_need(need, earlier, where)
    return stage


def _check_need(need: str, earlier: Mapping[str, Stage], where: str) -> None:
    if need in earlier:
        if earlier[need].kind not in ("train", "merge"):
            raise ConfigError(f"{where}: '{need}' makes no weights (it is a stage of kind {earlier[need].kind}).")
    elif not Path(need).is_dir():
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
