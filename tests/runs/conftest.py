"""Simulated data sets of every format, made once for all whole runs."""

from pathlib import Path

import pytest

from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.registry import REGISTRY

DAIR = "my_dair_v2x/v2x_c/cooperative-vehicle-infrastructure"


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A working directory with simulated data where the shipped files look for theirs."""
    folder = tmp_path_factory.mktemp("clone")
    for name in REGISTRY.names("writer"):
        out = folder / "dataset" / f"sim_{name}"
        sizes = {"preset": "mini", "scenarios": (2, 1, 2), "frames": 1, "seed": 3}
        simulate(SimulationOptions(out=out, **sizes, format=name, cameras=name == "opv2v"))
    places = {"OPV2V": "opv2v", "sim": "opv2v", "V2XSET": "v2xset", "v2xsim2_info": "v2xsim", DAIR: "dairv2x"}
    for place, name in places.items():
        (folder / "dataset" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "dataset" / place).symlink_to(folder / "dataset" / f"sim_{name}", target_is_directory=True)
    for sweep in (folder / "dataset" / "sim_opv2v").rglob("*.pcd"):  # OPV2V-H: sweeps of 32 channels in a second tree
        fewer = folder / "dataset" / "OPV2V_Hetero" / sweep.relative_to(folder / "dataset" / "sim_opv2v")
        fewer.parent.mkdir(parents=True, exist_ok=True)
        fewer.with_name(f"{sweep.stem}_32.pcd").symlink_to(sweep)
    return folder
