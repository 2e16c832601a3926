"""A recipe: the stages of an experiment, with their hypes and with whose weights each begins.

A recipe is a YAML map (see ``opencood/recipes``)::

    name: heal                      # also the default of out: opencood/logs/<name>
    title: HEAL on simulated data   # heads its table where it is published; default: the name
    seeds: [0, 1]                   # every training with each; one by default
    data: world                     # folder with train, validate, test, or a stage that simulates; else what hypes say
                                    # (of a stage also a list, to be used together)
    set: {train_params: {...}}      # keys that replace those of every hypes file
    stages:
      world: {simulate: {preset: small}}
      base:  {train: stage1.yaml}
      m3:    {train: stage2.yaml, start: base}             # begins with these weights; a list is merged, the last wins
      final: {merge: [m3, base], hypes: final.yaml}        # the base last; rename: {base: {old*: new}} changes names
      test:  {infer: final, in_order: [1, 2]}              # without in_order: all agents together
    compare: [[test 2, test 1]]     # differences of rows of the table, with intervals
    _base_: other.yaml              # a recipe beside this one, over which all this is laid
    parameters: {m3 joins: [m3]}    # what some trainings change, as a table
    measured: {base: 300}           # seconds that stages took elsewhere, for the estimate of a first run
    bands: published                # AP by distance from the ego too: bands of inference.py
    shrink: true                    # every hypes file at the size of check_hypes.py --step: tries the workflow only

A stage with ``seeds: [0]`` is run for these seeds of the recipe alone.
Stages come in the order in which they run; each names only earlier ones, or existing run folders. Where a
configuration names checkpoints by itself (CodeAlign), ``weights`` fills them in; ``assemble`` makes a run folder of
nothing else::

      codes: {train: codes.yaml, weights: {m1.model_path: base}}     # keys below model.args
      final: {assemble: deployed.yaml, weights: {backend.m1: codes, load_aligner.m1: codes}}
      test:  {infer: final, pairs: [[m1, m2], [m2, m1]]}   # ego m1 and all others m2, and the reverse
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.inheritance import BASE
from opencood.config.tree import overlaid
from opencood.errors import ConfigError, nearest
from opencood.experiments.evaluate import parse_bands
from opencood.experiments.run_places import LOGS

TOP = ("name", "title", "out", "seeds", "data", "set", "stages", "compare", "parameters", "measured", "bands", "shrink")
# Kind of stage -> the keys it may have besides its own.
KINDS: dict[str, tuple[str, ...]] = {
    "simulate": (),
    "train": ("data", "set", "start", "take", "rename", "weights", "half", "workers", "device", "seeds"),
    "merge": ("hypes", "rename", "data", "set", "seeds"),
    "assemble": ("weights", "data", "set", "seeds"),
    "infer": ("in_order", "lidar_degrade", "pairs", "method", "truth", "threshold_from", "options", "seeds"),
}
# Kinds that make weights.
TRAINED = ("train", "merge", "assemble")


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
    def hypes(self) -> str:
        """The hypes file of a stage that makes weights."""
        return str(self.spec["hypes"] if self.kind == "merge" else self.subject)

    @property
    def starts(self) -> list[str]:
        """Whose weights it begins with, merges or tests, in order: names of stages or run folders."""
        named = {"train": self.spec.get("start"), "merge": self.subject, "infer": self.subject}.get(self.kind)
        return [] if named is None else [named] if isinstance(named, str) else [str(name) for name in named]

    @property
    def weights(self) -> dict[str, str]:
        """Keys below ``model.args`` that name a checkpoint, and whose it is: a stage or a run folder."""
        return {str(key): str(name) for key, name in (self.spec.get("weights") or {}).items()}

    @property
    def needs(self) -> list[str]:
        """All whose weights it takes, each once."""
        return list(dict.fromkeys([*self.starts, *self.weights.values()]))

    @property
    def method(self) -> str:
        """How the rows of a test are called; several stages may test one method."""
        return str(self.spec.get("method", self.name))

    @property
    def pairs(self) -> list[tuple[str, ...]]:
        """Modality of the ego, and that of all others unless the ego is alone."""
        return [tuple(map(str, pair)) for pair in self.spec.get("pairs", ())]

    @property
    def per_seed(self) -> bool:
        """Whether every seed has its own; simulated data are common to all."""
        return self.kind != "simulate"

    def runs_for(self, seed: int) -> bool:
        """Whether it is one of the stages of a seed."""
        return self.per_seed and seed in self.spec.get("seeds", (seed,))


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
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    bands: str | None = None
    shrink: bool = False

    def stage(self, name: str) -> Stage | None:
        """The stage of a name, or None when it names a run folder."""
        return self.stages.get(name)

    def data_of(self, stage: Stage) -> list[str]:
        """The data that a stage uses together: names of stages that simulate, or folders."""
        named = stage.spec.get("data", self.data)
        return [] if named is None else [named] if isinstance(named, str) else [str(name) for name in named]

    def run_folder(self, text: str) -> Path:
        """A run folder that no stage makes: beside the recipe, else in the working directory."""
        beside = self.file.parent / text
        return beside if beside.is_dir() else Path(text)

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
    return recipe


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{place}: expected true or false, found {value!r}.")
    return value


def _content(file: Path, heirs: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a file says, laid over the recipe that it names under ``_base_``."""
    if file.resolve() in heirs:
        raise ConfigError(f"{heirs[0]}: {BASE} leads back to {file}.")
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as a recipe: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a recipe is a map with the keys {', '.join(TOP)}.")
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
