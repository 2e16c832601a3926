"""Lets a script of this folder find the tools and, with ``tools/_cli.py``, the clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _cli  # noqa: F401
