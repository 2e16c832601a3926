"""Our own hypes files: they load, mean what published ones of the same name mean, and explain all keys."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import digest
from opencood.config.schema.sections import SECTIONS
from opencood.experiments.hypes_check import hypes_files

FILES = [path.relative_to(SHIPPED).as_posix() for path in hypes_files([SHIPPED])]


@pytest.mark.parametrize("name", FILES)
def test_it_loads_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hypes = load_yaml(SHIPPED / name)
    assert hypes["parity"] == "fixed"
    assert not {"_base_", "_everywhere_"} & hypes.keys()


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("sim/") and name != "exemplar.yaml"])
def test_it_means_what_the_published_file_means(corpus: Path, name: str) -> None:
    published = corpus / "hypes" / "HEAL" / name
    if not published.is_file():
        pytest.skip("not among the published files here")
    assert digest(load_yaml(SHIPPED / name)) == digest(load_yaml(published))


@pytest.mark.parametrize("name", ["early", "late", "intermediate"])
def test_the_demo_files_share_grid_and_head(name: str) -> None:
    hypes = load_yaml(SHIPPED / "sim" / f"{name}.yaml")
    anchors = hypes["postprocess"]["anchor_args"]
    assert anchors["W"] % 8 == anchors["H"] % 8 == 0
    assert anchors["cav_lidar_range"] == hypes["postprocess"]["gt_range"] == hypes["model"]["args"]["lidar_range"]


def test_early_and_late_train_the_same_network() -> None:
    early, late = (load_yaml(SHIPPED / "sim" / f"{name}.yaml") for name in ("early", "late"))
    assert early["model"] == late["model"]


def test_the_exemplar_explains_every_key() -> None:
    text = (SHIPPED / "exemplar.yaml").read_text()
    known = {key.name for keys in SECTIONS.values() for key in keys}
    assert {name for name in known if not re.search(rf"\b{name}:", text)} == set()
