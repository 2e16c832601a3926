"""Links with code spaces inside detectors of two modalities."""

import logging

import pytest
import torch
from codealign_samples import CODEBOOK, translator
from model_samples import ALIGNED, CODED, RANGE, batch, cloud, hypes

from opencood.communication import Channel
from opencood.errors import CheckpointError, ConfigError, DataError
from opencood.models.build import build_model

C2C = "heter_codebook_shared_head_c2c"
SHARED = "heter_codebook_shared_head"
TWO = {"m2": ALIGNED | {"core_method": "VoxelNet"}}
SCENE = ["m1", "m2", "m2", "m1", "m2"]


def detector(name=C2C, **changes):
    torch.manual_seed(1)
    return build_model(hypes(name, **TWO, **changes)).eval().requires_grad_(False)


def mixed(names=SCENE, record_len=(3, 2)):
    """A batch whose agents are of the given modalities, and see what they see whoever is with them."""
    sample = batch(C2C, record_len)
    for m in set(names):
        rows = [row for row, name in enumerate(names) if name == m]
        voxels = cloud(rows)
        place = {row: i for i, row in enumerate(rows)}
        voxels["voxel_coords"][:, 0] = torch.tensor([place[int(row)] for row in voxels["voxel_coords"][:, 0]])
        sample[f"inputs_{m}"] = voxels
    if "m1" not in names:
        del sample["inputs_m1"]
    return sample | {"agent_modality_list": list(names)}


def same(a, b):
    return all(torch.allclose(a[key], b[key], atol=1e-5) for key in ("cls_preds", "reg_preds", "dir_preds"))


KINDS = [
    {},
    {"codebook": CODEBOOK | {"message": "entropy"}},
    {"codebook": {"seg_num": 2, "dict_size": 5, "r": 3}, "translator": translator(RANGE, 30)},
    {"use_coded_feature": True, "ego_codebook": CODEBOOK},
    {"use_codemap": True, "ego_codebook": CODEBOOK | {"dict_size": 16}},
    {"use_d2d": True, "translator": translator(RANGE, 16)},
    {"translator": translator(RANGE, kind="convnext_emb_gate")},
]


@pytest.mark.parametrize("changes", KINDS)
def test_translated_detections_follow_from_the_bytes(changes):
    model, sample = detector(**changes), mixed()
    direct = model(sample)
    model.channel = Channel()
    model.channel.meter.start_frame()
    assert same(model(sample), direct)
    cells, meter = 256, model.channel.meter
    if not changes:
        assert 3 * cells / 8 < meter.links[0, 1, 0] < 3 * cells / 8 + 200
    if changes.get("use_d2d"):
        assert meter.links[0, 1, 0] > 4 * 16 * cells


def test_the_translator_matters_and_runs_once_per_modality():
    model, sample = detector(), mixed()
    calls = []
    model.translator.register_forward_hook(lambda module, given, result: calls.append(len(given[0])))
    before = model(sample)
    assert calls == [3]
    model.translator.translator.channel_convert2.bias.add_(torch.randn(8) * 10)
    assert not same(model(sample), before)


def test_a_source_of_another_resolution_is_translated():
    coarse = {**ALIGNED, "backbone_args": ALIGNED["backbone_args"] | {"layer_strides": [4]}, "core_method": "VoxelNet"}
    section = translator(RANGE)
    section["args"] |= {"in_feature_shape": [8, 8]}
    torch.manual_seed(1)
    model = build_model(hypes(C2C, m2=coarse, translator=section)).eval().requires_grad_(False)
    direct = model(mixed())
    assert direct["cls_preds"].shape[-2:] == (16, 16)
    model.channel = Channel()
    assert same(model(mixed()), direct)


def test_training_draws_a_target_and_evaluation_takes_the_egos():
    model = detector(backend_modality=["m1", "m2"], translator=translator(RANGE, kind="convnext_with_modal_heads"))
    torch.manual_seed(0)
    model.train()
    drawn = {model(mixed())["backend_modality"] for _ in range(12)}
    assert drawn == {"m1", "m2"}
    model.link.weights = {"m1": 0, "m2": 1}
    assert {model(mixed())["backend_modality"] for _ in range(5)} == {"m2"}
    model.eval()
    sample = mixed(["m2", "m1"], (2,))
    assert "backend_modality" not in model(sample)
    of_ego = model(sample)
    model.link.target = "m2"
    assert same(model(sample), of_ego)
    model.link.target = "m1"
    assert not same(model(sample), of_ego)
    model.link.target = None
    with pytest.raises(DataError, match="egos of a batch are of one modality"):
        model(mixed(["m1", "m2"], (1, 1)))


def test_an_ego_without_backend_is_validated_but_not_deployed():
    sample = mixed(["m2", "m1"], (2,))
    assert detector()(sample)["cls_preds"].shape[0] == 1
    deployed = detector("heter_codebook_shared_head_c2c_infer", load_translator={"m2": ""}, load_aligner={"m1": ""})
    deployed(mixed())
    with pytest.raises(ConfigError, match="backend_modality: the ego is m2"):
        deployed(sample)
    with pytest.raises(ConfigError, match="no translator for agents of m2"):
        detector("heter_codebook_shared_head_c2c_infer")(mixed())


def test_agents_of_an_ignored_modality_are_as_if_never_there():
    model = detector("heter_codebook_shared_head_c2c_infer", ignored_modality=["m2"])
    sample = mixed(["m1", "m2", "m1"], (3,))
    without = mixed(["m1", "m1", "m1"], (3,))
    without["inputs_m1"] = sample["inputs_m1"]
    pairwise = without["pairwise_t_matrix"][:, [0, 2]][:, :, [0, 2]]
    without |= {"record_len": torch.tensor([2]), "pairwise_t_matrix": pairwise, "agent_modality_list": ["m1", "m1"]}
    assert same(model(sample), model(without))


def test_a_translator_for_other_words_is_refused():
    with pytest.raises(ConfigError, match="out_channels: 9, but the targets take 8"):
        detector(translator=translator(RANGE, 9))


def test_one_flag_joins_a_code_space():
    model = build_model(hypes(SHARED, join_code_space=True)).train()
    trainable = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"aligner_m1"}
    assert {name for name, part in model.named_children() if part.training} == {"aligner_m1"}
    loss = model(batch(SHARED))["cls_preds"].square().sum()
    loss.backward()
    assert all(p.grad is not None for p in model.aligner_m1.parameters())


# --- checkpoints of earlier stages ---------------------------------------------------------------


def saved(path, name=SHARED, **changes):
    torch.manual_seed(7)
    torch.save(build_model(hypes(name, **changes)).state_dict(), path)
    return str(path)


def test_missing_checkpoints_are_all_named_before_anything_is_read(tmp_path, caplog):
    paths = {"backend": {"m1": "nowhere/a.pth"}, "aligner_model": {"m1": "nowhere/b.pth"}}
    with pytest.raises(CheckpointError, match=r"(?s)b\.pth.*aligner_model\.m1.*a\.pth.*backend\.m1.*scratch"):
        build_model(hypes(C2C, **paths))
    with caplog.at_level(logging.WARNING):
        build_model(hypes(C2C, **paths) | {"missing_checkpoints": "scratch"})
    assert "nowhere/a.pth" in caplog.text


def test_a_backend_is_taken_from_both_generations(tmp_path):
    new = saved(tmp_path / "new.pth")
    old = {
        key.replace("codebook.", "multi_channel_compressor.").replace("fusion_backbone.", "pyramid_backbone."): value
        for key, value in torch.load(new).items()
    }
    torch.save(old, tmp_path / "old.pth")
    first, second = (
        build_model(hypes(C2C, backend={"m1": str(tmp_path / name)})).backend_models.state_dict()
        for name in ("new.pth", "old.pth")
    )
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(first["m1.cls_head.weight"], old["cls_head.weight"])


def test_names_are_whole_names(tmp_path):
    path = saved(tmp_path / "ten.pth", m10=CODED[SHARED]["m1"])
    state = torch.load(path)
    del state["encoder_m1.pillar_vfe.pfn_layers.0.norm.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"does not fit encoder_m1 .*1 missing.*: encoder_m1\.pillar"):
        build_model(hypes(C2C, m1=ALIGNED | {"model_path": path}))
    torch.save({key: value for key, value in state.items() if not key.startswith("encoder_m1.")}, path)
    with pytest.raises(CheckpointError, match=r"wants encoder_m1\.\*"):
        build_model(hypes(C2C, m1=ALIGNED | {"model_path": path}))


def test_training_alone_reads_the_checkpoints_of_stage_1(tmp_path):
    config = hypes(SHARED, fix_encoder=True, m1=ALIGNED | {"model_path": "nowhere.pth"})
    build_model(config, train_flag=False)
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        build_model(config)


def test_only_the_table_of_targets_trains(tmp_path):
    gated = {"translator": translator(RANGE, kind="convnext_emb_gate")}
    torch.manual_seed(5)
    trained = build_model(hypes(C2C, **gated)).state_dict()
    torch.save(trained, tmp_path / "stage2.pth")
    model = build_model(hypes(C2C, only_train_embedding=True, translator_path=str(tmp_path / "stage2.pth"), **gated))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["translator.translator.emb_table"]
    state = model.state_dict()
    assert torch.equal(
        state["translator.translator.smoothing.weight"], trained["translator.translator.smoothing.weight"]
    )
    assert not torch.equal(state["translator.translator.emb_table"], trained["translator.translator.emb_table"])
