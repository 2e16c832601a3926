"""Where golden folders and their cases lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DEFAULT_GOLDEN = SHARED / "golden"


def case_folders(golden: Path) -> list[Path]:
    """Every ``<family>/<case>`` folder that holds a ``case.yaml``, sorted."""
    return sorted(path.parent for path in golden.glob("*/*/case.yaml"))


def data_folders() -> list[Path]:
    """Where data lies that a golden folder does not bring along."""
    return [SHARED / "data"]
