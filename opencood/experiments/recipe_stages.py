"""What the stages of a recipe do, from what, and where their outputs go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from opencood.config.inheritance import EVERYWHERE
from opencood.config.loader import Hypes, load_file, load_yaml, reparse
from opencood.config.overrides import update_dict
from opencood.config.save import digest, save_config
from opencood.config.splits import split_paths
from opencood.config.tree import overlaid
from opencood.data.build import format_of
from opencood.errors import ConfigError, nearest
from opencood.evaluation.files import write_yaml
from opencood.experiments.continued import prepare_run
from opencood.experiments.folders import checkpoints_of
from opencood.experiments.in_order import Entrance, run_in_order
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.merging import merge_runs
from opencood.experiments.protocol import file_digest
from opencood.experiments.recipe import Recipe, Stage
from opencood.experiments.simulate import MANIFEST, SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training
from opencood.registry import REGISTRY
from opencood.training.settings import CAPS

SPLITS = {"root_dir": "train", "validate_dir": "validate", "test_dir": "test"}
# Options of an inference that the recipe itself decides.
DECIDED = ("model_dir", "save_detections", "edit", "range_quirk", "suffix", "info", "results")
Inputs = dict[str, str]


@dataclass(frozen=True)
class Task:
    """One stage for one seed (None where the stage is common to all)."""

    recipe: Recipe
    stage: Stage
    seed: int | None

    @property
    def name(self) -> str:
        """How it is called in records and messages."""
        return self.stage.name if self.seed is None else f"{self.stage.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its outputs go."""
        return self.recipe.out / ("data" if self.seed is None else f"seed{self.seed}") / self.stage.name

    @property
    def log(self) -> Path:
        """Everything that was said while it ran."""
        seed = "" if self.seed is None else f"_seed{self.seed}"
        return self.recipe.out / "logs" / f"{self.stage.name}{seed}.log"

    # --- what it is made from -----------------------------------------------------------------------------------------

    def runs(self) -> list[Path]:
        """The run folders whose weights it takes."""
        return [
            Task(self.recipe, stage, self.seed).folder if (stage := self.recipe.stage(need)) else Path(need)
            for need in self.stage.needs
        ]

    def hypes(self) -> Hypes:
        """The configuration of a training or of a merged detector, with the recipe's folders, keys and seed."""
        spec = self.stage.spec
        base = self.recipe.hypes_file(str(spec["hypes"] if self.stage.kind == "merge" else self.stage.subject))
        hypes = load_file(base)
        content: dict[str, Any] = {**hypes, **self._data_keys(hypes), "seed": self.seed}
        for changes in (self.recipe.changes, spec.get("set", {})):
            everywhere = changes.get(EVERYWHERE, {})
            content = update_dict(overlaid(content, {k: v for k, v in changes.items() if k != EVERYWHERE}), everywhere)
        return reparse(hypes.replaced(content))

    def data(self) -> Path | None:
        """The data folder that the recipe gives it; None where the hypes file decides."""
        named = self.stage.spec.get("data", self.recipe.data)
        if named is None:
            return None
        stage = self.recipe.stage(str(named))
        return Path(str(named)) if stage is None else Task(self.recipe, stage, None).folder

    def inputs(self) -> Inputs:
        """Digest of everything that decides the outputs, by name.

        Raises:
            ConfigError: a hypes file is wrong.
            CheckpointError: weights that it takes are not there.
        """
        found: Inputs = {"recipe": _digest({k: v for k, v in self.stage.spec.items() if k != "workers"})}
        if self.stage.kind in ("train", "merge"):
            hypes = self.hypes()
            found |= {"hypes": digest(hypes), "data": _data_digest(hypes)}
        limits = {name: os.environ[name] for name in CAPS if os.environ.get(name)}
        if self.stage.kind == "train" and limits:
            found["limits of the environment"] = _digest(limits)
        for need, (file, _) in zip(self.stage.needs, checkpoints_of(self.runs()), strict=True):
            found[f"weights of {need}"] = file_digest(file)
        if self.stage.kind == "infer":
            hypes = load_yaml(None, model_dir=self.runs()[0])
            found |= {"hypes": digest(hypes), "data": _data_digest(hypes)}
        return found

    def _data_keys(self, hypes: Hypes) -> dict[str, str]:
        """The keys that open the recipe's data, named as the format names its splits."""
        folder, wanted = self.data(), format_of(hypes)
        if folder is None:
            return {}
        writer: Any = REGISTRY.get("writer", wanted).target if REGISTRY.has("writer", wanted) else None
        names = writer.splits if writer else {}
        whole = {"data_dir": str(folder)} if "data_dir" in hypes else {}
        return whole | {key: str(folder / names.get(split, split)) for key, split in SPLITS.items()}

    # --- what it makes ------------------------------------------------------------------------------------------------

    def outputs(self) -> list[Path]:
        """The files that are its result; empty when it has not run."""
        if self.stage.kind == "simulate":
            return [self.folder / MANIFEST] if (self.folder / MANIFEST).is_file() else []
        if self.stage.kind == "infer":
            return sorted(self.folder.glob("*.npz"))
        return [checkpoints_of([self.folder])[0][0]] if any(self.folder.glob("net_epoch[1-9_]*.pth")) else []

    def run(self, inputs: Inputs) -> dict[str, Any]:
        """Do it; returns facts for the record.

        Raises:
            OpencoodError: whatever the stage cannot do.
        """
        return {"simulate": self._simulate, "train": self._train, "merge": self._merge, "infer": self._infer}[
            self.stage.kind
        ](inputs)

    def _simulate(self, inputs: Inputs) -> dict[str, Any]:
        options = dict(self.stage.subject or {})
        _known_options(options, SimulationOptions, ("out", "overwrite"), self.stage.name)
        options |= {key: tuple(value) for key, value in options.items() if isinstance(value, list)}
        report = simulate(SimulationOptions(out=self.folder, overwrite=self.folder.exists(), **options))
        return {"frames": report.frames}

    def _train(self, inputs: Inputs) -> dict[str, Any]:
        spec = self.stage.spec
        stamp = json.dumps(inputs, indent=1, sort_keys=True) + "\n"
        weights = [file for file, _ in checkpoints_of(self.runs())]
        prepare_run(self.folder, self.hypes(), stamp, weights, spec.get("rename"), spec.get("take", ()))
        chosen = {key: spec[key] for key in ("half", "workers", "device") if key in spec}
        run_training(None, self.folder, TrainingOptions(**chosen))
        return {}

    def _merge(self, inputs: Inputs) -> dict[str, Any]:
        partial = self.folder.with_name(f".{self.stage.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        save_config(self.hypes(), partial)
        merged = merge_runs(self.runs(), partial)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(partial, self.folder)
        return {"report": [line.replace(str(partial), str(self.folder)) for line in merged.lines()]}

    def _infer(self, inputs: Inputs) -> dict[str, Any]:
        options: dict[str, Any] = {"save_vis_interval": 0, **self.stage.spec.get("options", {})}
        _known_options(options, InferenceOptions, DECIDED, self.stage.name)
        plain = InferenceOptions(model_dir=self.runs()[0], **options)
        shutil.rmtree(self.folder, ignore_errors=True)
        facts = {}
        for label, report in self._evaluations(plain):
            write_yaml(self.folder / f"{label}.yaml", report.content())
            facts[label] = {"frames_per_second": report.frames_per_second}
        return {"rows": facts}

    def _evaluations(self, options: InferenceOptions) -> Any:
        spec = self.stage.spec
        if "in_order" not in spec and not spec.get("lidar_degrade"):
            label = self.stage.name
            yield label, run_inference(replace(options, save_detections=self.folder / f"{label}.npz"))
            return
        numbers = tuple(spec.get("in_order", (1, 2, 3, 4)))

        def keep(entrance: Entrance) -> Path:
            return self.folder / f"{self._row(entrance)}.npz"

        for entrance, report in run_in_order(options, numbers, bool(spec.get("lidar_degrade")), keep):
            yield self._row(entrance), report

    def _row(self, entrance: Entrance) -> str:
        return f"{self.stage.name} {entrance.agents}{entrance.degraded}"

    def command(self) -> str:
        """The command line that does the same by hand."""
        tool = "python opencood/tools"
        runs = " ".join(str(folder) for folder in self.runs())
        if self.stage.kind == "simulate":
            return f"{tool}/simulate.py --out {self.folder} # {dict(self.stage.subject or {})}"
        if self.stage.kind == "train":
            return f"{tool}/train.py -y None --model_dir {self.folder}" + (f" # starts with {runs}" if runs else "")
        if self.stage.kind == "merge":
            return f"{tool}/heal_tools.py merge_final {runs} {self.folder}"
        options = f" # {self.stage.spec['options']}" if "options" in self.stage.spec else ""
        if "in_order" not in self.stage.spec:
            return f"{tool}/inference.py --model_dir {runs}{options}"
        numbers = ",".join(map(str, self.stage.spec["in_order"]))
        return f"{tool}/inference_heter_in_order.py --model_dir {runs} --use_cav [{numbers}]{options}"


def tasks_of(recipe: Recipe) -> list[Task]:
    """All tasks in the order in which they run: what is common first, then seed by seed."""
    common = [Task(recipe, stage, None) for stage in recipe.stages.values() if not stage.per_seed]
    own = [Task(recipe, stage, seed) for seed in recipe.seeds for stage in recipe.stages.values() if stage.per_seed]
    return common + own


def _data_digest(hypes: Mapping[str, Any]) -> str:
    """Fingerprint of the splits: a simulation's manifest, else the split file, else the names in the folder."""
    paths = [(key, path) for key in SPLITS for path in split_paths(hypes.get(key))]
    return _digest({f"{key} {path}": _fingerprint(Path(path)) for key, path in paths})


def _fingerprint(root: Path) -> str:
    manifest = root.parent / MANIFEST
    if manifest.is_file():
        return file_digest(manifest)
    if root.is_file():
        return file_digest(root)
    return str(sorted(path.name for path in root.iterdir())) if root.is_dir() else "missing"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _known_options(options: Mapping[str, Any], kind: Any, decided: tuple[str, ...], stage: str) -> None:
    valid = [field.name for field in fields(kind) if field.name not in decided]
    for key in options:
        if key not in valid:
            raise ConfigError(
                f"stages.{stage}: unknown option '{key}'.{nearest(key, valid)} Valid: {', '.join(valid)}."
            )
