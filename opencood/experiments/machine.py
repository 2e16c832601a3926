"""What figures were measured on; no host name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy
import torch


def machine_facts() -> dict[str, Any]:
    """System, processor, cores that may be used, GPU, versions of Python, NumPy and torch, threads."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
