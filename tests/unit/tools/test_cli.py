"""What every command line shares: exit codes, one-line errors, warnings, device lists."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from opencood.errors import ConfigError
from opencood.tools import _cli


@pytest.fixture(autouse=True)
def restored_warnings(monkeypatch: Any) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


def exit_code(outcome: Any) -> Any:
    def main(argv: Sequence[str] | None) -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as caught:
        _cli.run(main, [])
    return caught.value.code


@pytest.mark.parametrize(
    ("outcome", "code"), [(None, 0), (0, 0), (3, 3), (ConfigError("x"), 2), (KeyboardInterrupt(), 130)]
)
def test_exit_codes(outcome: Any, code: int) -> None:
    assert exit_code(outcome) == code


def test_a_user_error_is_one_line(capsys: Any) -> None:
    exit_code(ConfigError("file.yaml:3: comm_range: expected a number"))
    assert capsys.readouterr().err.splitlines()[-1] == "error: file.yaml:3: comm_range: expected a number"


def test_a_bug_keeps_its_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        _cli.run(lambda argv: 1 // 0)


@pytest.mark.parametrize(
    ("value", "complaint"), [("x", True), ("0,", True), ("0;1", True), ("0,1", False), ("", False)]
)
def test_device_lists(monkeypatch: Any, caplog: Any, value: str, complaint: bool) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with caplog.at_level(logging.WARNING, logger="opencood"):
        _cli.check_visible_devices()
    assert ("running on the CPU" in caplog.text) is complaint


@pytest.mark.parametrize("value", ["-1", "GPU-8a2b-33", "MIG-GPU-1/2/3", "0, 1"])
def test_other_device_lists_that_are_right(monkeypatch: Any, caplog: Any, value: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    _cli.check_visible_devices()
    assert caplog.text == ""


def test_warnings_are_one_line(caplog: Any) -> None:
    _cli.set_up_logging()
    with caplog.at_level(logging.WARNING, logger="opencood"):
        warnings.showwarning(UserWarning("unknown key"), UserWarning, "file.py", 1)
    assert caplog.messages == ["warning: unknown key"]
