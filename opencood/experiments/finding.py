"""One line of a report about what was examined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``status`` is ``ok``, ``note`` (works without) or ``problem``, ``fix`` what to do."""

    status: str
    subject: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f"\n{'':>24}-> {self.fix}" if self.fix else ""
        return f"{self.status:<8} {self.subject:<14} {self.found}{fix}"


def has_problem(findings: Iterable[Finding]) -> bool:
    """Whether anything must be repaired before work can start."""
    return any(finding.status == PROBLEM for finding in findings)
