"""Our own hypes files: they load, mean what published ones of the same name mean, and explain all keys."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_yaml
from opencood.config.save import digest
from opencood.config.schema.sections import SECTIONS
from opencood.config.tree import lookup
from opencood.experiments.build import build_from_scratch
from opencood.experiments.hypes_check import describe_model, hypes_files

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


def twin(corpus: Path, name: str) -> Path | None:
    """The published file of this name: HEAL's, else that of a fork whose meaning it shares."""
    files = (corpus / "hypes" / repository / name for repository in ("HEAL", "CodeAlign", "GenComm"))
    return next((file for file in files if file.is_file()), None)


def common_meaning(hypes: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what forks write otherwise: where the tables of modalities lie, and groups."""
    heter = {key: value for key, value in hypes["heter"].items() if key != "heter_group"}
    path = heter.get("assignment_path")
    return {**hypes, "heter": {**heter, "assignment_path": None if path is None else Path(path).name}}


@pytest.mark.parametrize("name", [name for name in FILES if "/HEAL/" in name and not name.startswith("sim/")])
def test_stages_of_heal_mean_and_build_what_the_published_ones_do(corpus: Path, name: str) -> None:
    published = twin(corpus, name)
    if published is None:
        pytest.skip("not among the published files here")
    ours, theirs = load_yaml(SHIPPED / name), load_yaml(published)
    assert digest(common_meaning(ours)) == digest(common_meaning(theirs))
    builds_what_is_published(corpus, published, ours.replaced({**ours, "flavor": theirs["flavor"]}))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("coopre/")])
def test_files_of_coopre_mean_and_build_what_the_published_ones_do(corpus: Path, name: str) -> None:
    """But for the splits: published files validate on the test split and name no other."""
    published = corpus / "hypes" / "CooPre" / Path(name).name
    if not published.is_file():
        pytest.skip("not among the published files here")
    ours, theirs = load_yaml(SHIPPED / name), load_yaml(published)
    assert ours["test_dir"] == theirs["validate_dir"]
    same_splits = {key: value for key, value in ours.items() if key != "test_dir"}
    ours = ours.replaced({**same_splits, "validate_dir": theirs["validate_dir"]})
    assert digest(ours) == digest(theirs)
    builds_what_is_published(corpus, published, ours.replaced({**ours, "parity": "published"}))


# Files of the older relatives: ours -> the repository, and the name there.
OLDER = {
    "point_pillar_fcooper.yaml": "OpenCOOD/point_pillar_fcooper.yaml",
    "v2v4real/point_pillar_fcooper.yaml": "V2V4Real/point_pillar_fcooper.yaml",
    "v2xreal/point_pillar_fcooper.yaml": "V2X-Real/point_pillar_fcooper.yaml",
    **{name: f"CoAlign/{name}" for name in FILES if "lidar_only_with_noise/" in name},
    **{name: f"STAMP/{name}" for name in FILES if "task_agnostic/" in name},
}


@pytest.mark.parametrize(("name", "theirs"), OLDER.items())
def test_files_of_older_relatives_mean_and_build_what_the_published_ones_do(
    corpus: Path, name: str, theirs: str
) -> None:
    """But for the folders: theirs name other ones, and no test split."""
    published = corpus / "hypes" / theirs
    ours, other = load_yaml(SHIPPED / name), load_yaml(published)
    assert ours["flavor"] == other["flavor"]
    folders = ("root_dir", "validate_dir", "test_dir")
    assert digest({k: v for k, v in ours.items() if k not in folders}) == digest(
        {k: v for k, v in other.items() if k not in folders}
    )
    builds_what_is_published(corpus, published, ours.replaced({**ours, "parity": "published"}))


def builds_what_is_published(corpus: Path, published: Path, ours: Hypes) -> None:
    """Derived values and the detector are those that the corpus lists for the published file.

    But for the checkpoints of modality definitions, for which the shipped definitions have placeholders.
    """
    key = published.relative_to(corpus / "hypes").as_posix()
    for path, value in json.loads((corpus / "derived.json").read_text())[key].items():
        assert path.endswith(".model_path") or lookup(ours, path) == value, path
    status = json.loads((corpus / "build_status.json").read_text())[key]
    with torch.device("meta"):
        built = describe_model(ours["model"]["core_method"], build_from_scratch(ours))
    assert (built.parameters, built.entries, built.sha1) == tuple(
        status[field] for field in ("params", "state_dict_entries", "sha1")
    )


@pytest.mark.parametrize("name", [name for name in FILES if "Heter_group/" in name or "dairv2x/Heter/" in name])
def test_stages_of_codealign_mean_and_build_what_the_published_ones_do(corpus: Path, name: str) -> None:
    ours, published = load_yaml(SHIPPED / name), corpus / "hypes" / "CodeAlign" / name
    assert ours["flavor"] == "codealign"
    if not published.is_file():
        with torch.device("meta"):
            build_from_scratch(ours)
        pytest.skip("not among the published files here")
    assert digest(ours) == digest(load_yaml(published))
    builds_what_is_published(corpus, published, ours)


# Published files that build another detector than ours of the same name, because they cannot do what they are for.
SLIPS = {
    "opv2v/GenComm_yamls/baselines/stage1/m3_att.yaml": "no backbone, which all second stages of m3 have",
    "opv2v/GenComm_yamls/baselines/stage2/STAMP/m1m2m3m4_att_infer.yaml": "only m1 and m2",
    "dairv2x/GenComm_yamls/baselines/stage1/m3_v2xvit.yaml": "calls m3 m1, so that it cannot be merged with m1",
}


@pytest.mark.parametrize("name", [name for name in FILES if "GenComm_yamls/" in name and name not in SLIPS])
def test_stages_of_gencomm_build_what_the_published_ones_do(corpus: Path, name: str) -> None:
    key = f"GenComm/{name}"
    status = json.loads((corpus / "build_status.json").read_text())
    if status.get(key, {}).get("params") is None:
        pytest.skip("not among the published files here that build")
    published, ours = load_yaml(corpus / "hypes" / key), load_yaml(SHIPPED / name)
    anchors = [f"postprocess.anchor_args.{key}" for key in ("l", "w", "h", "r", "num", "anchor_generator_config")]
    for path in (*anchors, "postprocess.nms_thresh", "heter.ego_modality", "optimizer.core_method"):
        assert lookup(ours, path) == lookup(published, path), path
    with torch.device("meta"):
        built = describe_model(ours["model"]["core_method"], build_from_scratch(ours))
    wanted = tuple(status[key][field] for field in ("params", "state_dict_entries", "sha1"))
    assert (built.parameters, built.entries, built.sha1) == wanted


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
