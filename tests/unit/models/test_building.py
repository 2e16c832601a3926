"""A configuration that cannot work fails while it is built, with one message that says where and why."""

import warnings

import pytest
from model_samples import HEADS, MODELS, PILLARS, PYRAMID, STAGE, hypes, is_heterogeneous, modality

from opencood.errors import ConfigError
from opencood.models.build import build_model
from opencood.registry import REGISTRY

OFF_CENTRE = [-6.4, -6.4, -3, 12.8, 6.4, 1]
TALL = modality(encoder_args=PILLARS | {"voxel_size": [0.4, 0.4, 1]}, backbone_args=STAGE)
WRONG = [
    ("heter_model_baseline", {"fusion_method": "atention"}, r"fusion_method: unknown fusion 'atention'.*max"),
    ("heter_model_baseline", {"fusion_method": "att", "att": {}}, r"args\.att: missing key.*feat_dim"),
    ("heter_model_baseline", {"lidar_range": OFF_CENTRE}, r"lidar_range.*not centred"),
    ("heter_pyramid_collab", {"lidar_range": OFF_CENTRE}, r"lidar_range.*not centred"),
    ("heter_model_baseline", {"lidar_range": [1, 2]}, r"6 numbers"),
    ("heter_model_baseline", {"in_head": 99}, r"in_head: made for 99 channels, but 24 arrive"),
    ("heter_model_baseline", {"m1": modality(core_method="pilar")}, r"m1\.core_method: unknown encoder 'pilar'"),
    ("heter_model_baseline", {"m1": {}}, r"model\.args\.m1: missing key 'core_method'"),
    ("heter_model_late", {"m1": TALL}, r"4 cells in height"),
    ("heter_pyramid_collab", {"fusion_backbone": PYRAMID}, r"missing key 'resnext'"),
    ("heter_pyramid_collab", {"fusion_backbone": PYRAMID | {"resnext": True, "layer_nums": [1]}}, r"layer_nums has 1"),
    ("heter_pyramid_collab", {"fusion_backbone": PYRAMID | {"resnext": True, "inplanes": 8}}, r"made for 8 channels"),
    ("heter_pyramid_collab", {"compressor": {"input_dim": 16, "compress_ratio": 32}}, r"compress_ratio 32"),
    ("heter_model_baseline_ms", {"fusion_method": "att", "att": {"feat_dim": [1, 2, 3]}}, r"2 levels need 2 values"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_wrong_arguments(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_model(hypes(name, **changes))


def test_missing_sections():
    with pytest.raises(ConfigError, match="no model section"):
        build_model({"flavor": "heal"})
    without = hypes("heter_model_baseline")
    del without["model"]["args"]["m1"]
    with pytest.raises(ConfigError, match="at least one modality"):
        build_model(without)


def test_unknown_model_names_the_nearest():
    config = {"model": {"core_method": "heter_pyramid_colab", "args": {}}, "flavor": "heal"}
    with pytest.raises(ConfigError, match="Did you mean 'heter_pyramid_collab'"):
        build_model(config)


def test_heads_and_anchors_must_agree():
    config = hypes("point_pillar") | {"postprocess": {"anchor_args": {"r": [0, 45, 90]}}}
    with pytest.raises(ConfigError, match="anchor_number is 2.*places 3"):
        build_model(config)


def test_modalities_should_arrive_at_one_width():
    other = MODELS["heter_model_baseline"]["m1"] | {"shrink_header": None}
    with pytest.warns(UserWarning, match="one width, but m1 gives 16"):
        build_model(
            hypes("heter_pyramid_collab", m2=modality(backbone_args=STAGE | {"num_filters": [32]}, **_identity()))
        )
    build_model(hypes("heter_model_baseline", m2=other))


def _identity():
    return {"aligner_args": {"core_method": "identity"}}


def test_unknown_keys_are_reported():
    with pytest.warns(UserWarning, match="does not read the key 'in_haed'.*in_head"):
        build_model(hypes("heter_pyramid_collab", in_haed=3))


@pytest.mark.parametrize("name", MODELS)
def test_published_keys_are_not(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_model(hypes(name, **({"ego_modality": "m1"} if is_heterogeneous(name) else {"max_cav": 5})))


def test_every_row_says_what_it_is():
    for name in REGISTRY.names("model"):
        assert REGISTRY.get("model", name).summary


def test_a_user_class_is_found_by_its_module_name(tmp_path, monkeypatch):
    import opencood.models as package

    source = ["from torch import nn", "class MyOwnModel(nn.Module):", "    def __init__(self, args):"]
    (tmp_path / "my_own_model.py").write_text("\n".join([*source, "        super().__init__()"]))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    model = build_model({"model": {"core_method": "my_own_model", "args": dict(HEADS)}, "flavor": "heal"})
    assert type(model).__name__ == "MyOwnModel"
