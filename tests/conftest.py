"""Options and summary that every test run knows, wherever it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failure of a run is a failure of the change, and can be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

# Test modules share helpers as ``tests.<area>.<module>`` whatever the working directory is.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", metavar="DIR", default=None, help="folder with golden cases (default: ../shared/golden)"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count what the golden cases compared."""
    counts = dict.fromkeys(("golden_arrays", "golden_values", "golden_ignored"), 0)
    cases = dict.fromkeys(("passed", "xfailed", "failed"), 0)
    for outcome in cases:
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", []))
            cases[outcome] += "golden_arrays" in properties
            if outcome == "passed":
                for name in counts:
                    counts[name] += properties.get(name, 0)
    if any(cases.values()):
        terminalreporter.write_line(
            f"golden cases: {cases['passed']} passed, {cases['xfailed']} expected failures, {cases['failed']} failed; "
            f"passing cases compared {counts['golden_arrays']} arrays and {counts['golden_values']} expected values "
            f"({counts['golden_ignored']} arrays ignored as the cases say)"
        )
