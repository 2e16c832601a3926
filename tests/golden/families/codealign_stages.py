"""The case of family ``codealign`` that says which checkpoint lands where, and what then trains."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from torch import nn

from opencood.models.build import build_model
from tests.golden.case import Case
from tests.golden.families.codealign_models import DIALECT

NOT_LOADED = "(not loaded)"
# No initial value is as large.
FIRST_MARK = 101
GATED = {"core_method": "convnext_emb_gate"}
Model = dict[str, Any]


def fits(case: Case) -> bool:
    """Whether it is this case."""
    return case.name == "stage_loading"


def run(case: Case) -> dict[str, Any]:
    """Save checkpoints of all stages, build what reads them, and compare where every entry came from."""
    assert all(case.meta[key] for key in ("checkpoints", "paths", "configuration"))
    mapping = json.loads(case.file("mapping.json").read_text())
    trainable = json.loads(case.file("trainable.json").read_text())
    with TemporaryDirectory() as folder:
        files = Files(case, Path(folder))
        for title, wanted in mapping.items():
            model = _built(files.paths_in(_mapped(files, title)), title.startswith("infer"))
            case.check(f"mapping.json: {title}", files.sources(model, wanted), wanted)
        for title, wanted in trainable.items():
            case.check(f"trainable.json: {title}", _trains(_built(files.paths_in(_counted(files, title)))), wanted)
    return {}


def _mapped(files: Files, title: str) -> Model:
    if title.startswith("stage1"):
        group = ["m1", "m3"] if "group" in title else ["m1"]
        return files.stage(group, fix_encoder="fix_encoder" in title, fix_backend="fix_backend" in title)
    return files.translated() if title.startswith("stage2") else files.section("c2c_infer")


def _counted(files: Files, title: str) -> Model:
    if title.startswith("stage1"):
        flags = {key: key in title for key in ("fix_encoder", "fix_backend")}
        return files.stage(["m1", "m3"] if title == "stage1 fix_encoder" else ["m1"], **flags)
    model = files.translated()
    if "embedding" in title:
        model["args"] |= {"only_train_translator": False, "only_train_embedding": True}
        model["args"]["translator"] |= GATED
    return model


def _built(model: Model, deployed: bool = False) -> nn.Module:
    return build_model({"model": model, **DIALECT}, train_flag=not deployed)


def _trains(model: nn.Module) -> dict[str, Any]:
    model.train()
    named = dict(model.named_parameters())
    tops = {name.partition(".")[0] for name, parameter in named.items() if parameter.requires_grad}
    owners = {name.partition(".")[0] for name in named}
    return {
        "trainable_top_level": sorted(tops),
        "n_trainable": sum(p.numel() for p in named.values() if p.requires_grad),
        "n_total": sum(p.numel() for p in named.values()),
        "modules_in_train_mode_top_level": sorted(n for n, m in model.named_children() if m.training and n in owners),
    }


class Files:
    """Checkpoints in which every entry says where it is from."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.marks: dict[float, str] = {}
        for m in ("m1", "m3"):
            self._save(f"stage0_{m}", self.stage([m], aligner=None, codebook=None))
            self._save(f"stage1_{m}", self.stage([m]))
        self._save("stage2_m3_to_m1", self.translated())

    def section(self, case: str) -> Model:
        """The model section of another case."""
        return yaml.safe_load((self.case.folder.parent / case / "case.yaml").read_text())["model"]

    def stage(self, group: list[str], **changes: Any) -> Model:
        """Stage 0 or 1 of some modalities."""
        model = self.section("shared_head_m1_m3")
        args = {k: v for k, v in model["args"].items() if k in group or k not in ("m1", "m3")}
        model["args"] = {**args, "ego_modality": group, **changes}
        return model

    def translated(self) -> Model:
        """Stage 2 from m3 to m1."""
        model = self.section("c2c_eval")
        del model["args"]["m1"]
        model["args"]["ego_modality"] = ["m3"]
        return model

    def paths_in(self, model: Model) -> Model:
        """The section with the paths that the case names."""
        args = model["args"]
        for m in {"m1", "m3"} & set(args):
            args[m] = {**args[m], "model_path": self.path(f"stage0_{m}")}
        for key in {"aligner_model", "load_aligner"} & set(args):
            args[key] = {m: self.path(f"stage1_{m}") for m in args[key]}
        if "backend" in args:
            args["backend"] = {"m1": self.path("stage1_m1")}
        if "load_translator" in args:
            args["load_translator"] = {"m3": self.path("stage2_m3_to_m1")}
        return model

    def path(self, name: str) -> str:
        """The file of a checkpoint."""
        return str(self.folder / f"{name}.pth")

    def _save(self, name: str, model: Model) -> None:
        built = build_model({"model": model, "missing_checkpoints": "scratch", **DIALECT}, train_flag=False)
        state = built.state_dict()
        for prefix in _prefixes(state):
            mark = float(FIRST_MARK + len(self.marks))
            self.marks[mark] = f"{name}:{prefix}"
            for key in (key for key in state if key.startswith(f"{prefix}.")):
                state[key] = torch.full_like(state[key], mark)
        torch.save(state, self.path(name))

    def sources(self, model: nn.Module, wanted: Mapping[str, Any]) -> dict[str, list[str]]:
        """Where the entries below every prefix are from."""
        state = model.state_dict()
        return {
            prefix: sorted({self._source(v) for k, v in state.items() if k.startswith(f"{prefix}.")})
            for prefix in wanted
        }

    def _source(self, value: torch.Tensor) -> str:
        numbers = value.unique()
        return self.marks.get(numbers.item(), NOT_LOADED) if len(numbers) == 1 else NOT_LOADED


def _prefixes(state: Mapping[str, Any]) -> Iterator[str]:
    depth = {"backend_models": 3}
    tops = (".".join(key.split(".")[: depth.get(key.partition(".")[0], 1)]) for key in state)
    yield from dict.fromkeys(tops)
