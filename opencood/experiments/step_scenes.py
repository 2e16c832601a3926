"""Small simulated data sets, one in each format, on which any configuration of that format can take a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from opencood.config.loader import Hypes
from opencood.config.tree import section
from opencood.experiments.dataset_check.places import find_splits
from opencood.experiments.simulate import SimulationOptions, cast_of, simulate

# Everything that a published file may ask for: cameras, depth, clouds of fewer beams, agents for four modalities.
_SCENE = SimulationOptions(
    Path(), preset="mini", scenarios=(1, 1, 0), frames=2, cameras=True, image_size=(200, 150), extra_beams=(32, 16),
    seed=1,
)  # fmt: skip
_CARS = 4
_MODALITIES_IN_ORDER = "{}_4modality_in_order.json"
# Readers of folders that another format's writer writes.
_WRITTEN_AS = {"opv2v4stamp": "opv2v"}


def make_scenes(folder: Path, formats: set[str]) -> None:
    """Simulate a few frames of each format in ``<folder>/<format>``, unless they are there already.

    Raises:
        ConfigError: the simulator does not know a format.
    """
    for name in sorted({_WRITTEN_AS.get(name, name) for name in formats}):
        if not (folder / name).exists():
            fewest, most = cast_of(name).cars
            cars = min(max(_CARS, fewest), most)
            simulate(replace(_SCENE, out=folder / name, format=name, agents=(cars, cars)))


def on_scene(hypes: Hypes, folder: Path, name: str) -> Hypes:
    """The configuration with the simulated folders of a format; in the test its agents have the modalities in turn."""
    written = _WRITTEN_AS.get(name, name)
    scene = folder / written
    roots = {split.name: str(split.root) for split in find_splits(scene, written)}
    content: dict[str, Any] = {**hypes, "data_dir": str(scene), "root_dir": roots["train"]}
    content["validate_dir"] = content["test_dir"] = roots.get("validate") or roots["val"]
    content["fusion"] = {**section(hypes, "fusion"), "dataset": name}
    assignment = scene / _MODALITIES_IN_ORDER.format(written)
    if "heter" in hypes:
        path = str(assignment) if assignment.is_file() else None
        content["heter"] = {**section(hypes, "heter"), "assignment_path": path}
    return hypes.replaced(content)
