"""Look at the machine: what works here, and the exact fix for what does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from opencood.errors import ConfigError
from opencood.experiments.finding import Finding

MINIMUM_PYTHON = (3, 11)
REQUIRED_PACKAGES = ("numpy", "numba", "PyYAML", "tqdm", "matplotlib", "tensorboardX", "pillow", "filelock")
DATA_FOLDERS = {
    "OPV2V": "dataset/OPV2V",
    "OPV2V-H": "dataset/OPV2V_Hetero",
    "V2XSet": "dataset/V2XSET",
    "V2X-Sim": "dataset/v2xsim2_info",
    "DAIR-V2X-C": "dataset/my_dair_v2x/v2x_c",
    "V2X-Real": "v2xreal",
}
SPLITS = ("train", "validate", "test")
SIMULATE = "make one with: python opencood/tools/simulate.py --out dataset/OPV2V"
SPCONV_BUILDS = ((12, 6, "cu126"), (12, 4, "cu124"), (12, 1, "cu121"), (12, 0, "cu120"), (11, 8, "cu118"))


def examine(root: Path | None = None) -> list[Finding]:
    """Examine Python, packages, devices and the data folders below ``root`` (the working directory).

    Raises:
        ConfigError: ``root`` is no folder.
    """
    if root is not None and not root.is_dir():
        raise ConfigError(f"--root: no folder '{root}'; give the one that holds dataset/.")
    checks: Iterable[Callable[[], list[Finding]]] = (
        _python,
        _torch,
        _packages,
        _devices,
        _spconv,
        lambda: _data(root or Path.cwd()),
        lambda: _writable(root or Path.cwd()),
    )
    return [finding for check in checks for finding in check()]


def _python() -> list[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        return [Finding("problem", "Python", found, f"make a virtual environment with Python {wanted} or newer")]
    return [Finding("ok", "Python", found)]


def _torch() -> list[Finding]:
    threads = torch.get_num_threads()
    return [Finding("ok", "torch", f"{torch.__version__}, {threads} threads, {os.cpu_count()} cores")]


def _packages() -> list[Finding]:
    findings = []
    for package in REQUIRED_PACKAGES:
        try:
            findings.append(Finding("ok", package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding("problem", package, "not installed", "pip install -r requirements.txt"))
    return findings


def _devices() -> list[Finding]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    asked = 0 if not visible else len(visible.split(","))
    if not torch.cuda.is_available():
        return [Finding("note", "CUDA", "none: everything runs on the CPU", _cuda_fix(visible))]
    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    findings = [Finding("ok", "CUDA", f"{torch.version.cuda}: {names}")]
    if asked > count:
        found = f"CUDA_VISIBLE_DEVICES={visible} names {asked} devices, {count} can be used"
        fix = "name existing devices only, and as many as --nproc_per_node"
        findings.append(Finding("problem", "CUDA devices", found, fix))
    return findings


def _cuda_fix(visible: str | None) -> str:
    if visible is not None and torch.version.cuda is not None:
        return f"CUDA_VISIBLE_DEVICES is '{visible}': unset it, or name device numbers such as 0"
    if torch.version.cuda is None:
        return "with an NVIDIA GPU: pip install a CUDA build of torch (pytorch.org), then the extra for spconv"
    return "with an NVIDIA GPU: check that nvidia-smi works"


def _spconv() -> list[Finding]:
    try:
        module = importlib.import_module("spconv")
    except ImportError:
        found = "not installed: sparse convolution uses the built-in PyTorch version"
        return [Finding("note", "spconv", found, _spconv_fix())]
    return [Finding("ok", "spconv", str(getattr(module, "__version__", "found")))]


def _spconv_fix() -> str:
    if not torch.cuda.is_available() or torch.version.cuda is None:
        return ""
    major, minor = (int(part) for part in torch.version.cuda.split(".")[:2])
    build = next((name for a, b, name in SPCONV_BUILDS if (a, b) <= (major, minor)), SPCONV_BUILDS[-1][2])
    return f"pip install '.[{build}]'"


def _data(root: Path) -> list[Finding]:
    findings = []
    for name, folder in DATA_FOLDERS.items():
        path = root / folder
        if path.is_dir():
            findings.append(_data_folder(name, path, folder))
    if findings:
        return findings
    searched = ", ".join(DATA_FOLDERS.values())
    return [Finding("note", "data", f"none below {root} (looked for {searched})", SIMULATE)]


def _data_folder(name: str, path: Path, folder: str) -> Finding:
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    splits = [split for split in SPLITS if (path / split).is_dir()]
    if not entries:
        return Finding(
            "problem", name, f"{folder} is empty", SIMULATE if name == "OPV2V" else "unpack the data set there"
        )
    empty = [split for split in splits if not any((path / split).iterdir())]
    if empty:
        return Finding("problem", name, f"{folder}: empty split {', '.join(empty)}", "unpack the missing split there")
    counted = [f"{split} {sum(entry.is_dir() for entry in (path / split).iterdir())}" for split in splits]
    return Finding(
        "ok", name, f"{folder}: {'scenarios: ' + ', '.join(counted) if counted else f'{len(entries)} entries'}"
    )


def _writable(root: Path) -> list[Finding]:
    logs = root / "opencood" / "logs"
    existing = next(folder for folder in (logs, *logs.parents) if folder.is_dir())
    if os.access(existing, os.W_OK):
        return []
    return [
        Finding("problem", "logs", f"{existing} cannot be written", f"chmod u+w {existing}, or work in another clone")
    ]
