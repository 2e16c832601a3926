"""One test per case folder of the golden folder; listed cases are strict expected failures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.golden import expected, locate


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_folder" not in metafunc.fixturenames:
        return
    golden = _golden_folder(metafunc.config)
    if golden is None:
        reason = (
            f"no golden folder at {locate.DEFAULT_GOLDEN.parent.name}/{locate.DEFAULT_GOLDEN.name} (use --golden DIR)"
        )
        params = [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    else:
        reasons = expected.read()
        params = [_parameter(folder, reasons) for folder in locate.case_folders(golden)]
    metafunc.parametrize("case_folder", params)


def _golden_folder(config: pytest.Config) -> Path | None:
    """The folder asked for, or the default one when it exists.

    Raises:
        UsageError: the folder asked for does not exist.
    """
    asked = config.getoption("--golden")
    if asked is None:
        return locate.DEFAULT_GOLDEN if locate.DEFAULT_GOLDEN.is_dir() else None
    golden = Path(asked).resolve()
    if not golden.is_dir():
        raise pytest.UsageError(f"--golden: no folder {asked}")
    return golden


def _parameter(folder: Path, reasons: dict[str, str]) -> object:
    name = f"{folder.parent.name}/{folder.name}"
    marks = [pytest.mark.xfail(reason=reasons[name] or "not supported yet", strict=True)] if name in reasons else []
    return pytest.param(folder, marks=marks, id=name)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Several workers share few cores, and sums must not depend on the thread count."""
    torch.set_num_threads(1)
