"""The list of cases whose feature does not exist yet: ``family/case  # reason`` per line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LIST = Path(__file__).parent / "expected_failures.txt"
HEADER = """\
# Golden cases that must still fail. Strict: a listed case that passes is an error, like an unlisted one that fails.
# One per line: family/case  # reason. After adding a feature: python -m tests.golden.shrink
"""


def read(path: Path = LIST) -> dict[str, str]:
    """Case id -> reason."""
    reasons: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, reason = line.partition("#")
            if name.strip():
                reasons[name.strip()] = reason.strip()
    return reasons


def write(reasons: Mapping[str, str], path: Path = LIST) -> None:
    """Write the list, sorted by id."""
    width = max((len(name) for name in reasons), default=0)
    lines = [f"{name:<{width}}  # {reason}" if reason else name for name, reason in sorted(reasons.items())]
    path.write_text("\n".join([HEADER.rstrip("\n"), *lines]) + "\n", encoding="utf-8")
