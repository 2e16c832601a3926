"""The same detector under two families' names: key sets become equal, outputs stay, what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_samples import (
    AXIAL,
    FUSIONS,
    NECKED,
    STAGE,
    TIMED,
    batch,
    hypes,
    modality,
)

from opencood.errors import CheckpointError, ConfigError
from opencood.models.build import build_model
from opencood.models.renaming import TO_HOMOGENEOUS, TO_M1, TO_OPENCOOD, renamed
from opencood.utils.model_utils import rename_model_dict_keys

METHODS = FUSIONS | {"att": {"feat_dim": 24}}
COMPRESSED = {"compressor": {"input_dim": 24, "compress_ratio": 4}}


def baseline(method: str) -> tuple[Any, Any]:
    """Homogeneous detector and its counterpart with one modality."""
    chosen = {"fusion_method": method, method: METHODS[method]}
    return hypes("point_pillar_baseline", **chosen), hypes("heter_model_baseline", **chosen)


def opencood(core_method: str, method: str, **args: Any) -> tuple[Any, Any]:
    old = {"model": {"core_method": core_method, "args": NECKED | args}, "flavor": "opencood", "parity": "fixed"}
    chosen = {"fusion_method": method, method: METHODS[method], "dir_args": None}
    return old, hypes("heter_model_baseline", **chosen)


def twins(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    torch.manual_seed(5)
    return tuple(build_model(one).eval().requires_grad_(False) for one in pair)  # type: ignore[return-value]


def same_outputs(old: Any, new: Any, projected: bool = False) -> bool:
    sample = batch("point_pillar_baseline")
    if projected:  # data in the ego's frame: nothing is left to be warped
        sample["pairwise_t_matrix"] = torch.eye(4, dtype=torch.float64).expand_as(sample["pairwise_t_matrix"])
    before = old(sample)
    after = new({**sample, "inputs_m1": sample["processed_lidar"], "agent_modality_list": ["m1"] * 5})
    names = {"cls_preds": "psm", "reg_preds": "rm", "dir_preds": "dm"}
    pairs = [(after[name], before.get(name, before.get(legacy))) for name, legacy in names.items() if name in after]
    return bool(pairs) and all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_baselines_agree_in_both_directions(method: str) -> None:
    old, new = twins(baseline(method))
    assert not same_outputs(old, new)
    new.load_state_dict(renamed(old.state_dict(), TO_M1), strict=True)
    assert same_outputs(old, new)
    back = renamed(new.state_dict(), TO_HOMOGENEOUS)
    assert set(back) == set(old.state_dict())
    again, _ = twins(baseline(method))
    again.load_state_dict(back, strict=True)
    assert same_outputs(again, new)


OPENCOOD = {
    "fcooper": lambda: opencood("point_pillar_fcooper", "max"),
    "opv2v": lambda: opencood("point_pillar_opv2v", "att"),
    "fax": lambda: opencood("point_pillar_fax", "cobevt", fax_fusion=AXIAL),
}


@pytest.mark.parametrize("name", sorted(OPENCOOD))
def test_opencoods_detectors_agree_on_projected_data(name: str) -> None:
    old, new = twins(OPENCOOD[name]())
    new.load_state_dict(renamed(old.state_dict(), TO_M1), strict=True)
    assert same_outputs(old, new, projected=True)
    assert set(renamed(new.state_dict(), TO_OPENCOOD)) == set(old.state_dict())


def test_v2x_vit_is_wrapped_once_more() -> None:
    encoder = FUSIONS["v2xvit"]["transformer"]["encoder"]
    args = {"transformer": {"encoder": encoder | {"sttf": {"voxel_size": [0.4, 0.4, 4], "downsample_rate": 2}}}}
    old, new = twins(opencood("point_pillar_transformer", "v2xvit", **args))
    assert set(renamed(old.state_dict(), TO_M1)) == set(new.state_dict())
    assert set(renamed(new.state_dict(), TO_OPENCOOD)) == set(old.state_dict())
    assert TIMED["use_RTE"]  # with time encoding there are further entries, which keep their names but for the prefix


@pytest.mark.parametrize("method", ["max", "att"])
def test_fusion_at_every_level(method: str) -> None:
    old = hypes("point_pillar_baseline_multiscale", fusion_method=method, compression=0)
    new = hypes("heter_model_baseline_ms", fusion_method=method)
    args = {"att": {"feat_dim": [16, 32]}} if method == "att" else {}
    backbone = new["model"]["args"]["fusion_backbone"] | {"layer_strides": [2, 2]}
    old["model"]["args"] |= {"base_bev_backbone": backbone | {"resnet": True}} | args
    new["model"]["args"] |= {
        "fusion_backbone": backbone,
        "m1": modality(backbone_args=STAGE, aligner_args={"core_method": "identity"}),
    } | args
    homogeneous, by_modality = twins((old, new))
    changed = renamed(homogeneous.state_dict(), TO_M1)
    report = by_modality.load_state_dict(changed, strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("backbone.resnet.layer0.") for key in report.missing_keys)  # which nothing reads
    assert same_outputs(homogeneous, by_modality)
    assert set(renamed(by_modality.state_dict(), TO_HOMOGENEOUS)) == set(homogeneous.state_dict())


def test_compressors_and_single_detectors() -> None:
    single = build_model(hypes("point_pillar"))
    changed = renamed(single.state_dict(), TO_M1)
    assert {key.partition(".")[0] for key in changed} == {
        "encoder_m1", "backbone_m1", "shrinker_m1", "cls_head", "reg_head", "dir_head",
    }  # fmt: skip
    assert renamed(changed, TO_HOMOGENEOUS).keys() == single.state_dict().keys()
    squeezed = build_model(hypes("heter_model_baseline", **COMPRESSED)).state_dict()
    assert any(key.startswith("naive_compressor.") for key in renamed(squeezed, TO_HOMOGENEOUS))
    assert renamed({"camencode.x": 1, "pillar_vfe.y": 2}, TO_M1, "m7") == {
        "encoder_m7.camencode.x": 1,
        "encoder_m7.pillar_vfe.y": 2,
    }


def test_a_file_is_renamed_in_place(tmp_path: Path) -> None:
    old, new = twins(baseline("att"))
    file = tmp_path / "net_epoch1.pth"
    torch.save(old.state_dict(), file)
    rename_model_dict_keys(file, TO_M1)
    assert set(torch.load(file)) == set(new.state_dict())
    assert set(torch.load(tmp_path / "net_epoch1_before_rename.pth")) == set(old.state_dict())


def test_what_cannot_be_renamed() -> None:
    with pytest.raises(ConfigError, match="unknown direction 'homogenous->m1'. Did you mean 'homogeneous->m1'"):
        renamed({"pillar_vfe.x": 1}, "homogenous->m1")
    for state, direction, reason in (
        ({"pillar_vfe.x": 1, "ssfa.y": 1}, TO_M1, "'ssfa' cannot be renamed: the neck of SECOND"),
        ({"camencode.x": 1, "bevencode.y": 1}, TO_M1, "Lift-Splat-Shoot"),
        ({"encoder_m1.pillar_vfe.x": 1, "layers_m1.y": 1}, TO_HOMOGENEOUS, "late fusion in two halves"),
        ({"encoder_m1.pillar_vfe.x": 1}, TO_M1, "is this a homogeneous detector"),
        ({"encoder_m1.a": 1, "encoder_m2.a": 1}, TO_HOMOGENEOUS, "one modality, m1, .* are encoder_m2"),
        (
            {"pillar_vfe.x": 1, "backbone.y": 1, "backbone_m1.y": 1},
            TO_M1,
            "two entries would be called 'backbone_m1.y'",
        ),
    ):
        with pytest.raises(CheckpointError, match=reason):
            renamed(state, direction)
