"""Merging runs and looking into checkpoints: what is taken, dropped, in conflict; refusals before writing."""

import pickle

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import save_config
from opencood.errors import CheckpointError
from opencood.experiments import checkpoint_view as view
from opencood.experiments.folders import nearest_run
from opencood.experiments.merging import (
    add_head_suffix,
    half_precision,
    merge_runs,
    merge_with_adapters,
    remove_m4_trunk,
    rename_to_new_version,
)
from opencood.models.checkpoint_tools import parts_only, without_parts
from opencood.models.checkpoints import find_checkpoint, read_state_dict
from opencood.tools import heal_tools, inspect_checkpoint, stamp_tools


def put(folder, state, name="net_epoch1.pth"):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({key: torch.tensor(float(value)) for key, value in state.items()}, folder / name)
    return folder


@pytest.fixture
def stages(tmp_path):
    """Two added modalities, one of them from late fusion, and the base."""
    m3 = put(
        tmp_path / "stage2" / "m3", {"encoder_m3.w": 3, "cls_head_m3.w": 3, "shrink_conv_m3.w": 3, "cls_head.w": 9}
    )
    m4 = put(tmp_path / "stage2" / "m4", {"encoder_m4.w": 4, "cls_head.w": 1}, "net_epoch_bestval_at7.pth")
    base = put(tmp_path / "stage1" / "m1", {"encoder_m1.w": 1, "cls_head.w": 1})
    return m3, m4, base


def test_the_base_comes_last_and_wins(stages, tmp_path):
    merged = merge_runs(stages, tmp_path / "final")
    state = {key: float(value) for key, value in read_state_dict(merged.file).items()}
    assert state == {"encoder_m3.w": 3, "encoder_m4.w": 4, "encoder_m1.w": 1, "cls_head.w": 1}
    assert merged.dropped == {"cls_head_m3": 1, "shrink_conv_m3": 1}
    assert [source.kept for source in merged.sources] == [1, 1, 2]
    assert [line.split(":")[0] for line in merged.conflicts] == ["cls_head.w"]
    assert find_checkpoint(tmp_path / "final") == (tmp_path / "final" / "net_epoch1.pth", 1)


def test_late_fusion_parts_of_the_last_folder_stay(stages, tmp_path):
    m3, m4, _ = stages
    assert "cls_head_m3.w" in read_state_dict(merge_runs([m4, m3], tmp_path / "out").file)


def test_every_folder_that_is_wrong_is_named_with_the_nearest_and_nothing_is_written(stages, tmp_path):
    _, m4, base = stages
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError) as refused:
        merge_runs([m4, tmp_path / "stage2" / "m1", tmp_path / "empty", base], tmp_path / "out")
    text = str(refused.value)
    assert f"{tmp_path}/stage2/m1: there is no such folder. Did you mean '{base}'?" in text
    assert f"{tmp_path}/empty: holds no checkpoint" in text and "Nothing was written" in text
    assert not (tmp_path / "out").exists()


def test_a_base_becomes_another_type(tmp_path, capsys):
    base = put(tmp_path / "m0_base", {"encoder_m1.w": 1, "fusion_net.w": 2, "cls_head.w": 3, "shrink_conv.w": 4})
    stamp_tools.main(["rename", str(base), "m1", "m0", str(tmp_path / "m0")])
    state = read_state_dict(tmp_path / "m0" / "net_epoch1.pth")
    assert {key: float(value) for key, value in state.items()} == {
        "encoder_m0.w": 1, "fusion_net_m0.w": 2, "cls_head_m0.w": 3, "shrink_conv.w": 4,
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="no part of type 'm7'"):
        stamp_tools.main(["rename", str(base), "m7", "m0", str(tmp_path / "other")])
    other = put(tmp_path / "m1", {"encoder_m1.w": 5})
    stamp_tools.main(["merge", str(tmp_path / "m0"), str(other), str(tmp_path / "stage2")])
    assert set(read_state_dict(tmp_path / "stage2" / "net_epoch1.pth")) == {*state, "encoder_m1.w"} - {"cls_head_m0.w"}
    assert "collaboration base" in capsys.readouterr().out


def test_adapters_need_runs_to_be_put_together(tmp_path):
    save_config(load_yaml(SHIPPED / "sim" / "late.yaml"), tmp_path / "final_infer" / "mine")
    with pytest.raises(CheckpointError, match=r"local: there is no run folder in it\. Nothing was written"):
        merge_with_adapters(tmp_path, "mine", "local_adapter", with_protocol=False)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("stage2/m1", "stage1/m1"), ("stage1/m3", "stage2/m3"), ("stage2/m33", "stage2/m3"), ("x", None)],
)
def test_the_nearest_run_has_the_same_name_before_it_has_a_name_that_is_alike(stages, tmp_path, wanted, found):
    assert nearest_run(tmp_path / wanted) == (tmp_path / found if found else None)


def test_several_best_files_give_the_newest_with_a_warning(stages, tmp_path):
    m3, m4, base = stages
    put(m4, {"encoder_m4.w": 5}, "net_epoch_bestval_at9.pth")
    with pytest.warns(UserWarning, match="2 best checkpoints; net_epoch_bestval_at9.pth"):
        merged = merge_runs([m4, base], tmp_path / "out")
    assert float(read_state_dict(merged.file)["encoder_m4.w"]) == 5


def test_an_occupied_output_folder(stages, tmp_path):
    m3, _, base = stages
    out = put(tmp_path / "out", {"old.w": 1})
    put(out, {"old.w": 1}, "net_epoch_bestval_at3.pth")
    hypes = tmp_path / "hypes.yaml"
    hypes.write_text("name: x\n")
    merged = merge_runs([m3, base], out, hypes)
    assert list(read_state_dict(out / "net_epoch1.pth.oldversion")) == ["old.w"]
    assert "net_epoch_bestval_at3.pth, which is loaded instead" in "\n".join(merged.lines())
    assert (out / "config.yaml").read_text() == "name: x\n"


@pytest.mark.parametrize("name", ["merge_final", "merge_and_save"])
def test_the_published_commands(stages, tmp_path, capsys, name):
    out = tmp_path / name
    heal_tools.main([name, *map(str, stages), str(out)])
    heal_tools.main(["merge", str(stages[0]), str(stages[2]), str(tmp_path / "two")])
    assert f"wrote {out}/net_epoch1.pth" in capsys.readouterr().out
    assert "encoder_m4.w" not in read_state_dict(tmp_path / "two" / "net_epoch1.pth")


def test_edits_in_place_keep_the_old_file(tmp_path):
    file = put(tmp_path, {"a.model.model.w": 1, "a.model.warpnet.w": 2, "encoder_m4.camencode.trunk.w": 3,
                          "encoder_m4.camencode.layer30.w": 4}) / "net_epoch1.pth"  # fmt: skip
    rename_to_new_version(file)
    assert set(read_state_dict(file)) >= {"a.channel_align.model.w", "a.warpnet.w"}
    assert "a.model.model.w" in read_state_dict(tmp_path / "net_epoch1.pth.oldversion")
    remove_m4_trunk(file)
    assert list(read_state_dict(file))[2:] == ["encoder_m4.camencode.layer30.w"]
    with pytest.raises(CheckpointError, match="nothing to change"):
        remove_m4_trunk(file)


def test_heads_get_a_suffix(stages, tmp_path):
    file = add_head_suffix(stages[2], "m1", tmp_path / "out")
    assert list(read_state_dict(file)) == ["encoder_m1.w", "cls_head_m1.w"]


def test_half_precision_halves_numbers_and_nothing_else(tmp_path, capsys):
    state = {"a.w": torch.tensor([0.25, -3.0]), "a.num": torch.tensor(7), "b.w": torch.ones(3)}
    (tmp_path / "run").mkdir()
    torch.save(state, tmp_path / "run" / "net_epoch3.pth")
    heal_tools.main(["half_precision", str(tmp_path / "run"), str(tmp_path / "out"), "--without", "b"])
    written = read_state_dict(tmp_path / "out" / "net_epoch1.pth")
    assert "net_epoch1.pth" in capsys.readouterr().out
    assert list(written) == ["a.w", "a.num"]
    assert written["a.w"].dtype == torch.float16 and torch.equal(written["a.w"].float(), state["a.w"])
    assert torch.equal(written["a.num"], state["a.num"])
    torch.save({"a.w": torch.tensor([1e6])}, tmp_path / "run" / "net_epoch3.pth")
    with pytest.raises(CheckpointError, match=r"a\.w holds numbers that are too large"):
        half_precision(tmp_path / "run", tmp_path / "out")


def test_prefixes_are_whole_names():
    state = {"encoder_m1.w": 1, "encoder_m10.w": 2, "encoder_m1": 3}
    assert without_parts(state, ["encoder_m1"]) == {"encoder_m10.w": 2}
    assert parts_only(state, ["encoder_m10"]) == {"encoder_m10.w": 2}
    with pytest.raises(CheckpointError, match="no module 'encoder_m2'"):
        parts_only(state, ["encoder_m2"])


# --- looking into checkpoints -----------------------------------------------------------------------------------------


def test_description(tmp_path, capsys):
    state = {"a.conv.weight": torch.ones(2, 3), "a.bn.running_mean": torch.ones(3), "b": torch.tensor(float("nan"))}
    torch.save(state, tmp_path / "net_epoch4.pth")
    torch.save(state, tmp_path / "net_epoch_bestval_at2.pth")
    inspect_checkpoint.main([str(tmp_path), "--shapes"])
    text = capsys.readouterr().out
    assert "3 entries, epoch 2 (best in validation)" in text and "also there: net_epoch4.pth" in text
    assert [line.split() for line in text.splitlines() if line.startswith("all")] == [["all", "3", "7", "3"]]
    assert "not finite: b" in text and "2x3  float32" in text


def test_differences(tmp_path, capsys):
    first = {"a.x": torch.zeros(2), "a.y": torch.zeros(2), "m1.z": torch.zeros(2), "gone": torch.zeros(1)}
    second = {"a.x": torch.zeros(2), "a.y": torch.tensor([0, 0.5]), "m2.z": torch.zeros(3)}
    torch.save(first, tmp_path / "net_epoch1.pth")
    torch.save(second, tmp_path / "net_epoch2.pth")
    inspect_checkpoint.main([str(tmp_path / "net_epoch1.pth"), str(tmp_path / "net_epoch2.pth"), "--rename", "m1=m2"])
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line[:2] in ("a ", "m2", "go")}
    assert rows["a"] == ["1", "1", "0", "0", "0"]
    assert "a.y: largest difference 0.5" in text
    assert "m2.z: other shape, 2 and 3" in text and "gone: only first, 1" in text


class Malice:
    def __reduce__(self):
        return print, ("this must never be printed",)


def test_code_and_truncation_are_refused_by_every_tool(tmp_path, capsys):
    good = put(tmp_path / "good", {"a.w": 1})
    bad = tmp_path / "bad"
    bad.mkdir()
    whole = (good / "net_epoch1.pth").read_bytes()
    broken = {"pickle": pickle.dumps({"a.w": Malice()}), "empty": b""}
    broken |= {f"cut {size}": whole[:size] for size in range(1, len(whole), 97)}
    torch.save({"a.w": Malice()}, tmp_path / "zipped.pth")
    broken["zipped"] = (tmp_path / "zipped.pth").read_bytes()
    for content in broken.values():
        (bad / "net_epoch1.pth").write_bytes(content)
        for attempt in (lambda: merge_runs([bad, good], tmp_path / "out"), lambda: view.open_checkpoint(bad)):
            with pytest.raises(CheckpointError, match=r"bad/net_epoch1\.pth"):
                attempt()
    assert "never be printed" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
