"""Simulated data sets of every format, made once for all whole runs."""

from pathlib import Path

import pytest

from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.registry import REGISTRY


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A working directory with simulated data where the shipped files look for theirs."""
    folder = tmp_path_factory.mktemp("clone")
    for name in REGISTRY.names("writer"):
        out = folder / "dataset" / f"sim_{name}"
        sizes = {"preset": "mini", "scenarios": (2, 1, 2), "frames": 1, "seed": 3}
        simulate(SimulationOptions(out=out, **sizes, format=name, cameras=name == "opv2v"))
    for link in ("OPV2V", "sim"):
        (folder / "dataset" / link).symlink_to(folder / "dataset" / "sim_opv2v", target_is_directory=True)
    return folder
