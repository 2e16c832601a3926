"""Rewrite ``expected_failures.txt`` from a run: ``python -m tests.golden.shrink [--add] [-k EXPRESSION] [-n WORKERS]``.

Listed cases that pass now leave the list. Unlisted cases that fail are regressions: they are named, and enter the list
only with ``--add``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from tests.golden import expected


class Outcomes:
    """Pytest plugin that collects which golden case passed or failed, and why."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of the call, or of a failed setup."""
        if "test_case[" not in report.nodeid:
            return
        name = report.nodeid.partition("[")[2].removesuffix("]")
        if report.failed:
            self.failed[name] = _headline(report)
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def _headline(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    text = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return text.strip()[:120]


def shrunk(listed: dict[str, str], outcomes: Outcomes, add: bool) -> dict[str, str]:
    """The list after a run: cases that were not run keep their place."""
    kept = {name: reason for name, reason in listed.items() if name not in outcomes.passed}
    if add:
        kept |= {name: reason for name, reason in outcomes.failed.items() if name not in listed}
    return kept


def main() -> int:
    """Run the golden cases without expected failures and rewrite the list; 1 when something regressed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", action="store_true", help="also list unlisted cases that fail")
    parser.add_argument("-k", default="", help="pytest expression that selects cases")
    parser.add_argument("-n", default="0", help="worker processes (pytest-xdist)")
    arguments = parser.parse_args()
    outcomes = Outcomes()
    options = [
        "--runxfail",
        "-q",
        "--no-header",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-n",
        arguments.n,
        "-k",
        arguments.k,
    ]
    pytest.main([str(Path(__file__).parent), *options], plugins=[outcomes])
    listed = expected.read()
    expected.write(shrunk(listed, outcomes, arguments.add))
    regressions = sorted(set(outcomes.failed) - set(listed))
    for name in regressions:
        sys.stdout.write(f"fails but is not listed: {name}: {outcomes.failed[name]}\n")
    sys.stdout.write(f"{len(set(listed) & outcomes.passed)} cases left the list\n")
    return 1 if regressions and not arguments.add else 0


if __name__ == "__main__":
    raise SystemExit(main())
