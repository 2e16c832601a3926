"""Stages of CodeAlign: where checkpoints are looked for and land, what a training step moves, and what stays."""

import copy

import pytest
import torch
from codealign_samples import CODEBOOK, translator
from model_samples import ALIGNED, RANGE, batch, hypes

from opencood.config.loader import load_mapping
from opencood.errors import CheckpointError
from opencood.models.build import build_model

SHARED, C2C = "heter_codebook_shared_head", "heter_codebook_shared_head_c2c"
SOURCE = {"use_coded_feature": True, "ego_codebook": CODEBOOK}
GATED = {"translator": translator(RANGE, kind="convnext_emb_gate", dim=32)}


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A checkpoint of stage 1 in a folder below the YAML's, another working directory, and its state."""
    (tmp_path / "hypes" / "runs").mkdir(parents=True)
    (tmp_path / "elsewhere" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    torch.manual_seed(7)
    state = build_model(hypes(SHARED)).state_dict()
    return tmp_path, state


def config(folder, name, **changes):
    """A configuration that was read from ``hypes/stage.yaml``."""
    made = load_mapping(hypes(name, **copy.deepcopy(changes)), "stage.yaml")
    made.path = folder / "hypes" / "stage.yaml"
    return made


# key of the YAML -> how it is written, the model, entry of the model that it fills -> entry of the checkpoint
PLACES = {
    "model_path": (
        SHARED,
        lambda path: {"m1": ALIGNED | {"model_path": path}, "fix_encoder": True},
        "backbone_m1.resnet.layer0.0.conv1.weight",
        "backbone_m1.resnet.layer0.0.conv1.weight",
    ),
    "aligner_model": (C2C, lambda path: {"aligner_model": {"m1": path}}, "aligner_m1.", "aligner_m1."),
    "backend": (
        C2C,
        lambda path: {"backend": {"m1": path}},
        "backend_models.m1.codebook._decoders.0._restoreHead.weight",
        "codebook._decoders.0._restoreHead.weight",
    ),
    "codebook_model": (
        C2C,
        lambda path: {"codebook_model": path, **SOURCE},
        "ego_codebook._decoders.0._restoreHead.weight",
        "codebook._decoders.0._restoreHead.weight",
    ),
    "backend_path": (
        SHARED,
        lambda path: {"fix_backend": True, "backend_path": path},
        "fusion_backbone.",
        "fusion_backbone.",
    ),
    "codebook_path": (
        SHARED,
        lambda path: {"load_codebook": True, "codebook_path": path},
        "codebook._decoders.0._restoreHead.weight",
        "codebook._decoders.0._restoreHead.weight",
    ),
}


@pytest.mark.parametrize("beside", ["hypes", "elsewhere"])
@pytest.mark.parametrize("key", PLACES)
def test_paths_are_relative_to_the_yaml_and_to_the_working_directory(earlier, key, beside):
    folder, state = earlier
    torch.save(state, folder / beside / "runs" / "stage1.pth")
    name, changes, ours, theirs = PLACES[key]
    made = build_model(config(folder, name, **changes("runs/stage1.pth"))).state_dict()
    filled = [entry for entry in made if entry.startswith(ours)]
    assert filled
    assert all(torch.equal(made[entry], state[theirs + entry[len(ours) :]]) for entry in filled)


@pytest.mark.parametrize("key", PLACES)
def test_a_missing_file_is_named_with_its_key(earlier, key):
    folder, _ = earlier
    name, changes, _, _ = PLACES[key]
    with pytest.raises(CheckpointError, match=rf"missing checkpoints: runs/gone\.pth \(model\.args.*{key}"):
        build_model(config(folder, name, **changes("runs/gone.pth")))


def test_joining_takes_code_space_and_backend_and_its_own_encoder(earlier):
    folder, state = earlier
    torch.save(state, folder / "hypes" / "runs" / "stage1.pth")
    path = {"codebook_path": "runs/stage1.pth", "backend_path": "runs/stage1.pth"}
    joined = build_model(
        config(folder, SHARED, join_code_space=True, m1=ALIGNED | {"model_path": "runs/stage1.pth"}, **path)
    ).state_dict()
    for entry, value in joined.items():
        assert torch.equal(value, state[entry]) or entry.startswith("aligner_m1."), entry
    assert not torch.equal(joined["aligner_m1.channel_align.model.0.conv1.weight"],
                           state["aligner_m1.channel_align.model.0.conv1.weight"])  # fmt: skip


# --- what a step moves ----------------------------------------------------------------------------------------------

FLAGS = {
    "nothing fixed": (SHARED, {}, {"encoder_m1", "backbone_m1", "aligner_m1", "codebook", "fusion_backbone",
                                   "shrink_conv", "cls_head", "reg_head", "dir_head"}),
    "fix_encoder": (SHARED, {"fix_encoder": True}, {"aligner_m1", "codebook", "fusion_backbone", "shrink_conv",
                                                    "cls_head", "reg_head", "dir_head"}),
    "fix_encoder, fix_backend": (SHARED, {"fix_encoder": True, "fix_backend": True}, {"aligner_m1", "codebook"}),
    "join_code_space": (SHARED, {"join_code_space": True}, {"aligner_m1"}),
    "only_train_translator": (C2C, {"only_train_translator": True}, {"translator"}),
    "only_train_embedding": (C2C, {"only_train_embedding": True, **GATED}, {"translator"}),
}  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_freeze_parameters_and_statistics(flags):
    name, changes, learns = FLAGS[flags]
    torch.manual_seed(3)
    # with a backend of another modality m1 has to translate
    other = {"backend_modality": ["m2"], "m2": ALIGNED} if name == C2C else {}
    model = build_model(hypes(name, **changes, **other))
    sample = batch(name) | ({"agent_modality_list": ["m1"] * 5} if name == C2C else {})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.train()  # what trainers do at the start of an epoch
        outputs = model(sample)
        optimizer.zero_grad(set_to_none=True)
        total = sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds", "dir_preds"))
        (total + outputs.get("codebook_loss", 0)).backward()
        optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.partition(".")[0] for key in moved} == learns
    if flags == "only_train_embedding":
        assert moved == {"translator.translator.emb_table"}
