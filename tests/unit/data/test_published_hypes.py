"""Every published configuration that says how data are read finds its reader, its sample class and its agents."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

from opencood.config.loader import load_yaml
from opencood.data.build import format_of
from opencood.data.modality import build_roster
from opencood.data.samples.settings import read_settings
from opencood.errors import ConfigError
from opencood.registry import REGISTRY

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "compat" / "hypes"
# What such a file may still ask for in vain; nothing else.
NOT_BUILT = (
    "unknown postprocessor 'CameraBevPostprocessor'",
    "unknown preprocessor 'PointPreprocessor'",
)


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="published configurations are not here")
def test_samples_of_published_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    built, in_vain = 0, set()
    for file in sorted(CORPUS.rglob("*.yaml")):
        hypes = loaded(file)
        if hypes is None or not (hypes.get("fusion") or {}).get("core_method"):
            continue
        hypes["modality_assignment"] = {"scenario": {"1": "m1"}}  # the tables lie elsewhere
        for train in (True, False):
            try:
                reader = REGISTRY.get("reader", format_of(hypes)).target
                settings = read_settings(hypes, train, False, reader.conventions)
                maker = REGISTRY.get("sample", hypes["fusion"]["core_method"]).target(settings)
                if maker.inputs.heterogeneous:
                    build_roster(hypes, train, reader.conventions.closed)
                built += 1
            except ConfigError as error:
                in_vain.add(next((reason for reason in NOT_BUILT if reason in str(error)), f"{file}: {error}"))
    assert built > 500 and in_vain <= set(NOT_BUILT)


def loaded(file: Path) -> Any:
    """A configuration, or None where the file is broken or its library of modalities is not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load_yaml(file)
        except ConfigError:
            return None
