"""What the stages of a recipe do, from what, and where their outputs go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from opencood.config.inheritance import EVERYWHERE
from opencood.config.loader import Hypes, load_file, load_yaml, reparse
from opencood.config.overrides import update_dict
from opencood.config.save import digest, save_config
from opencood.config.splits import split_paths
from opencood.config.tree import overlaid, with_value
from opencood.data.build import format_of
from opencood.errors import ConfigError, nearest
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_model
from opencood.experiments.continued import prepare_run
from opencood.experiments.folders import checkpoints_of
from opencood.experiments.inference import InferenceOptions
from opencood.experiments.merging import MERGED, merge_runs
from opencood.experiments.protocol import file_digest
from opencood.experiments.recipe import TRAINED, Recipe, Stage
from opencood.experiments.recipe_records import Inputs
from opencood.experiments.recipe_tests import run_tests
from opencood.experiments.shrink import shrink
from opencood.experiments.simulate import MANIFEST, SimulationOptions, simulate
from opencood.experiments.training import TrainingOptions, run_training
from opencood.models.checkpoints import find_checkpoint, write_state_dict
from opencood.registry import REGISTRY
from opencood.training.checkpoints import trained_parameters
from opencood.training.settings import CAPS

SPLITS = {"root_dir": "train", "validate_dir": "validate", "test_dir": "test"}
# Options of an inference that the recipe itself decides.
DECIDED = ("model_dir", "save_detections", "edit", "range_quirk", "suffix", "info", "results")


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

    def run(self, need: str) -> Path:
        """The run folder of a stage, with this seed, or of an earlier run."""
        stage = self.recipe.stage(need)
        return Task(self.recipe, stage, self.seed).folder if stage else self.recipe.run_folder(need)

    def starts(self) -> list[Path]:
        """The run folders whose weights it begins with, merges or tests."""
        return [self.run(need) for need in self.stage.starts]

    def hypes(self) -> Hypes:
        """The configuration of a training or of a merged detector, with the recipe's folders, keys and seed."""
        spec = self.stage.spec
        hypes = load_file(self.recipe.hypes_file(self.stage.hypes))
        content: dict[str, Any] = {**hypes, **self._data_keys(hypes), "seed": self.seed}
        for changes in (self.recipe.changes, spec.get("set") or {}):
            everywhere = changes.get(EVERYWHERE, {})
            content = update_dict(overlaid(content, {k: v for k, v in changes.items() if k != EVERYWHERE}), everywhere)
        for key, need in self.stage.weights.items():
            content = with_value(content, f"model.args.{key}", str(checkpoint_in(self.run(need))))
        made = reparse(hypes.replaced(content))
        return shrink(made) if self.recipe.shrink else made

    def data(self) -> list[Path]:
        """The data folders that the recipe gives it, to be used together; none where the hypes file decides."""
        return [
            Path(name) if (stage := self.recipe.stage(name)) is None else Task(self.recipe, stage, None).folder
            for name in self.recipe.data_of(self.stage)
        ]

    def inputs(self) -> Inputs:
        """Digest of everything that decides the outputs, by name.

        Raises:
            ConfigError: a hypes file is wrong.
            CheckpointError: weights that it takes are not there.
        """
        found: Inputs = {"recipe": _digest({k: v for k, v in self.stage.spec.items() if k != "workers"})}
        if self.stage.kind in TRAINED:
            hypes = self.hypes()
            found |= {"hypes": digest(hypes), "data": _data_digest(hypes)}
        limits = {name: os.environ[name] for name in CAPS if os.environ.get(name)}
        if self.stage.kind == "train" and limits:
            found["limits of the environment"] = _digest(limits)
        needs = self.stage.needs
        for need, (file, _) in zip(needs, checkpoints_of([self.run(need) for need in needs]), strict=True):
            found[f"weights of {need}"] = file_digest(file)
        if self.stage.kind == "infer":
            hypes = load_yaml(None, model_dir=self.starts()[0])
            found |= {"hypes": digest(hypes), "data": _data_digest(hypes)}
        return found

    def _data_keys(self, hypes: Hypes) -> dict[str, Any]:
        """The keys that open the recipe's data, named as the format names its splits."""
        folders, wanted = self.data(), format_of(hypes)
        if not folders:
            return {}
        writer: Any = REGISTRY.get("writer", wanted).target if REGISTRY.has("writer", wanted) else None
        names = writer.splits if writer else {}
        whole = {"data_dir": str(folders[0])} if "data_dir" in hypes else {}
        places = {key: [str(folder / names.get(split, split)) for folder in folders] for key, split in SPLITS.items()}
        if len(folders) == 1:
            return whole | {key: paths[0] for key, paths in places.items()}
        return whole | {key: [{"path": path} for path in paths] for key, paths in places.items()}

    # --- what it makes ------------------------------------------------------------------------------------------------

    def outputs(self) -> list[Path]:
        """The files that are its result; empty when it has not run."""
        if self.stage.kind == "simulate":
            return [self.folder / MANIFEST] if (self.folder / MANIFEST).is_file() else []
        if self.stage.kind == "infer":
            return sorted(self.folder.glob("*.npz"))
        return [checkpoints_of([self.folder])[0][0]] if any(self.folder.glob("net_epoch[1-9_]*.pth")) else []

    def work(self, inputs: Inputs) -> dict[str, Any]:
        """Do it; returns facts for the record.

        Raises:
            OpencoodError: whatever the stage cannot do.
        """
        kinds = {"simulate": self._simulate, "train": self._train, "merge": self._merge}
        kinds |= {"assemble": self._assemble, "infer": self._infer}
        return kinds[self.stage.kind](inputs)

    def _simulate(self, inputs: Inputs) -> dict[str, Any]:
        options = dict(self.stage.subject or {})
        _known_options(options, SimulationOptions, ("out", "overwrite"), self.stage.name)
        options |= {key: tuple(value) for key, value in options.items() if isinstance(value, list)}
        report = simulate(SimulationOptions(out=self.folder, overwrite=self.folder.exists(), **options))
        return {"frames": report.frames}

    def _train(self, inputs: Inputs) -> dict[str, Any]:
        spec = self.stage.spec
        stamp = json.dumps(inputs, indent=1, sort_keys=True) + "\n"
        weights = [file for file, _ in checkpoints_of(self.starts())]
        prepare_run(self.folder, self.hypes(), stamp, weights, spec.get("rename"), spec.get("take", ()))
        chosen = {key: spec[key] for key in ("half", "workers", "device") if key in spec}
        run_training(None, self.folder, TrainingOptions(**chosen))
        return {"parameters": trained_parameters(self.folder)}

    def _merge(self, inputs: Inputs) -> dict[str, Any]:
        with self._whole_folder() as partial:
            save_config(self.hypes(), partial)
            renames = {self.run(name): rules for name, rules in self.stage.spec.get("rename", {}).items()}
            merged = merge_runs(self.starts(), partial, renames=renames)
        return {"report": [line.replace(str(partial), str(self.folder)) for line in merged.lines()]}

    def _assemble(self, inputs: Inputs) -> dict[str, Any]:
        hypes = self.hypes()
        model = build_model(hypes)
        with self._whole_folder() as partial:
            save_config(hypes, partial)
            write_state_dict(model.state_dict(), partial / MERGED)
        return {}

    @contextmanager
    def _whole_folder(self) -> Iterator[Path]:
        """A folder that takes the place of its own when the block ends well."""
        partial = self.folder.with_name(f".{self.stage.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        yield partial
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(partial, self.folder)

    def _infer(self, inputs: Inputs) -> dict[str, Any]:
        options: dict[str, Any] = {"save_vis_interval": 0, **self.stage.spec.get("options", {})}
        _known_options(options, InferenceOptions, DECIDED, self.stage.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        rows = {}
        for label, report in run_tests(self.stage, InferenceOptions(self.starts()[0], **options), self.folder):
            write_yaml(self.folder / f"{label}.yaml", report.content())
            rows[label] = {"frames_per_second": report.frames_per_second}
        return {"rows": rows}

    def command(self) -> str:
        """The command line that does the same by hand."""
        tool = "python opencood/tools"
        runs = " ".join(str(folder) for folder in self.starts())
        if self.stage.kind == "simulate":
            return f"{tool}/simulate.py --out {self.folder} # {dict(self.stage.subject or {})}"
        if self.stage.kind == "train":
            return f"{tool}/train.py -y None --model_dir {self.folder}" + (f" # starts with {runs}" if runs else "")
        if self.stage.kind == "merge":
            return f"{tool}/heal_tools.py merge_final {runs} {self.folder}"
        if self.stage.kind == "assemble":
            named = ", ".join(f"model.args.{key}: {self.run(need)}" for key, need in self.stage.weights.items())
            return f"# {self.folder}: {self.stage.subject} with {named}"
        notes = {key: self.stage.spec[key] for key in ("pairs", "options") if key in self.stage.spec}
        options = f" # {notes}" if notes else ""
        if "in_order" not in self.stage.spec:
            return f"{tool}/inference.py --model_dir {runs}{options}"
        numbers = ",".join(map(str, self.stage.spec["in_order"]))
        return f"{tool}/inference_heter_in_order.py --model_dir {runs} --use_cav [{numbers}]{options}"


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of a run folder, or where it is going to be."""
    found = find_checkpoint(folder) if folder.is_dir() else None
    return folder / MERGED if found is None else Path(found[0])


def tasks_of(recipe: Recipe) -> list[Task]:
    """All tasks in the order in which they run: what is common first, then seed by seed."""
    common = [Task(recipe, stage, None) for stage in recipe.stages.values() if not stage.per_seed]
    own = [
        Task(recipe, stage, seed) for seed in recipe.seeds for stage in recipe.stages.values() if stage.runs_for(seed)
    ]
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
