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
    pictures:                       # labels.png: AP@0.5 of rows over what they differ in, by distance too with bands
      labels: {across: labels in %, curves: {from scratch: {20: few, 100: all}}}
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

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opencood.config.flavor import SHIPPED
from opencood.errors import ConfigError

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
class Picture:
    """Curves of AP@0.5: what is across, and for each curve the row at each place there (numbers, or words)."""

    across: str
    curves: Mapping[str, Mapping[float | str, str]]


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
    pictures: Mapping[str, Picture] = field(default_factory=dict)
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
