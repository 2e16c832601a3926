"""Small simulated data sets, one in each format, on which any configuration of that format can take a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from opencood.config.loader import Hypes
from opencood.config.tree import section
from opencood.data.modality import ego_modalities
from opencood.errors import ConfigError
from opencood.experiments.dataset_check.places import find_splits
from opencood.experiments.simulate import SimulationOptions, cast_of, simulate
from opencood.registry import REGISTRY

# Everything that a published file may ask for: cameras, depth, clouds of fewer beams, agents for four modalities.
_SCENE = SimulationOptions(
    Path(), preset="mini", scenarios=(1, 1, 0), frames=2, cameras=True, image_size=(200, 150), extra_beams=(32, 16),
    seed=1,
)  # fmt: skip
_CARS = 4
_MODALITIES_IN_ORDER = "{}_4modality_in_order.json"
_FOLDERS_OF = {"opv2v4stamp": "opv2v"}  # readers of folders that another format has


def make_scenes(folder: Path, formats: set[str]) -> None:
    """Simulate a few frames of each format that the simulator knows in ``<folder>/<format>``, unless they are there."""
    written = {_FOLDERS_OF.get(name, name) for name in formats}
    for name in sorted(name for name in written if REGISTRY.has("writer", name)):
        if not (folder / name).exists():
            fewest, most = cast_of(name).cars
            cars = min(max(_CARS, fewest), most)
            simulate(replace(_SCENE, out=folder / name, format=name, agents=(cars, cars)))


def on_scene(hypes: Hypes, folder: Path, name: str) -> Hypes:
    """The configuration with the simulated folders of a format; in the test its agents have the modalities in turn.

    Raises:
        ConfigError: the simulator does not know the format.
    """
    written = _FOLDERS_OF.get(name, name)
    if not (folder / written).exists():
        raise ConfigError(f"fusion.dataset: '{name}' data are not simulated, so no step can be taken on them.")
    scene = folder / written
    roots = {split.name: str(split.root) for split in find_splits(scene, written)}
    content: dict[str, Any] = {**hypes, "data_dir": str(scene), "root_dir": roots["train"]}
    content["validate_dir"] = content["test_dir"] = roots.get("validate") or roots["val"]
    content["fusion"] = {**section(hypes, "fusion"), "dataset": name}
    listed = scene / _MODALITIES_IN_ORDER.format(written)
    if "heter" in hypes:
        content["heter"] = {**section(hypes, "heter"), "assignment_path": None}
        content["modality_assignment"] = _assigned(content["heter"], listed) if listed.is_file() else None
    return hypes.replaced(content)


def _assigned(heter: Mapping[str, Any], listed: Path) -> dict[str, dict[str, str]]:
    """The names of ``heter`` in turn for the agents of each scenario of a file, those of an ego's modality first.

    Where modalities form groups, which never meet, names of other groups than the ego's are not given.
    """
    mapping = section(heter, "mapping_dict") or {name: name for name in heter["modality_setting"]}
    leading = ego_modalities(heter["ego_modality"])
    groups = heter.get("heter_group") or [list(heter["modality_setting"])]
    together = {name for group in groups if set(group) & set(leading) for name in group}
    names = sorted(
        (name for name in mapping if mapping[name] in together), key=lambda name: mapping[name] not in leading
    )
    scenarios: dict[str, dict[str, str]] = json.loads(listed.read_text())
    return {scenario: dict(zip(agents, cycle(names), strict=False)) for scenario, agents in scenarios.items()}
