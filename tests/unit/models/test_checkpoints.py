"""Weights: what fits is loaded, what does not is reported, and nothing foreign gets in."""

import pickle

import pytest
import torch
from model_samples import hypes

from opencood.errors import CheckpointError
from opencood.models.build import build_model
from opencood.models.checkpoint_tools import rename_keys
from opencood.models.checkpoints import find_checkpoint, load_checkpoint, read_state_dict, write_state_dict
from opencood.utils.model_utils import rename_model_dict_keys

NAME = "heter_pyramid_collab"


@pytest.fixture
def saved(tmp_path):
    model = build_model(hypes(NAME))
    path = tmp_path / "net_epoch1.pth"
    write_state_dict(model.state_dict(), path)
    return model, path


def test_what_was_saved_is_loaded(saved):
    model, path = saved
    torch.manual_seed(5)
    other = build_model(hypes(NAME))
    report = load_checkpoint(other, path)
    assert report.complete and len(report.loaded) == len(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_every_difference_is_reported(saved, tmp_path):
    model, _ = saved
    state = model.state_dict()
    del state["cls_head.bias"]
    state["spare.weight"] = torch.zeros(1)
    state["reg_head.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "edited.pth")
    report = load_checkpoint(model, tmp_path / "edited.pth", strict_shapes=False)
    assert report.missing == ("cls_head.bias",)
    assert report.unexpected == ("spare.weight",)
    assert report.misshapen == ("reg_head.bias: file [3], model [14]",)
    assert "spare.weight" in str(report)
    with pytest.raises(CheckpointError, match=r"reg_head\.bias: file \[3\]"):
        load_checkpoint(model, tmp_path / "edited.pth")


@pytest.mark.parametrize(
    ("other", "cause"), [("point_pillar", "homogeneous model"), ("heter_model_late", "belongs to another model")]
)
def test_another_models_file_is_refused(saved, other, cause):
    _, path = saved
    model = build_model(hypes(other))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=str(path.name)) as caught:
        load_checkpoint(model, path)
    assert "Missing" in str(caught.value) or "another shape" in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_wrapped_and_parallel_files_are_understood(saved, tmp_path):
    model, _ = saved
    wrapped = {"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    assert load_checkpoint(model, tmp_path / "wrapped.pth").complete


def test_both_names_of_the_pyramid_are_understood(saved):
    _, path = saved
    codealign = build_model(hypes(NAME) | {"flavor": "codealign"})
    assert load_checkpoint(codealign, path).complete


def test_unreadable_files(tmp_path):
    with pytest.raises(CheckpointError, match="no such"):
        read_state_dict(tmp_path / "absent.pth")
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 not a checkpoint")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print))
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("damaged.pth", "code.pth", "list.pth"):
        with pytest.raises(CheckpointError, match=name):
            read_state_dict(tmp_path / name)


def test_a_truncated_file_is_noticed(saved, tmp_path):
    _, path = saved
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="cut.pth"):
        read_state_dict(tmp_path / "cut.pth")


def test_the_checkpoint_of_a_run_folder(tmp_path):
    assert find_checkpoint(tmp_path) is None
    for name in ("net_epoch9.pth", "net_epoch10.pth", "net_epoch2.pth.tmp3", "last.ckpt"):
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path) == (tmp_path / "net_epoch10.pth", 10)
    (tmp_path / "net_epoch_bestval_at3.pth").touch()
    assert find_checkpoint(tmp_path) == (tmp_path / "net_epoch_bestval_at3.pth", 3)
    (tmp_path / "net_epoch_bestval_at7.pth").touch()
    with pytest.warns(UserWarning, match="2 best"):
        assert find_checkpoint(tmp_path) == (tmp_path / "net_epoch_bestval_at7.pth", 7)
    with pytest.raises(CheckpointError, match="no such run folder"):
        find_checkpoint(tmp_path / "nowhere")


def test_keys_are_renamed_in_the_file_and_the_old_file_is_kept(saved):
    model, path = saved
    rename_model_dict_keys(path, {"encoder_m1.*": "encoder_m2.*", "cls_head.bias": ""})
    renamed = read_state_dict(path)
    assert "encoder_m2.pillar_vfe.pfn_layers.0.linear.weight" in renamed
    assert "cls_head.bias" not in renamed and not any(key.startswith("encoder_m1") for key in renamed)
    assert set(read_state_dict(path.with_name("net_epoch1_before_rename.pth"))) == set(model.state_dict())


def test_a_rule_for_a_key_that_is_not_there():
    with pytest.raises(CheckpointError, match="cls_hed"):
        rename_keys({"cls_head": 1}, {"cls_hed": "x"})
