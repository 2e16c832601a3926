"""The bookkeeping of CodeAlign's claims at published size: the numbers of the specification (codealign.md 12)."""

import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file, reparse
from opencood.experiments import codealign_costs as costs
from opencood.experiments.build import build_from_scratch
from opencood.experiments.describe import payload_bits, sent_messages, without_content
from opencood.experiments.meta_batch import META, meta_batch
from opencood.experiments.model_trace import tensors_in
from opencood.tools import codealign_costs as tool

NETWORKS = {
    "m1": 226_944,
    "m2": 966_592,
    "m3": 559_296,
    "m4": 226_944,
    "m5": 226_944,
    "m6": 1_802_352,
    "m7": 14_902_932,
}


def test_parts_have_the_published_sizes():
    assert costs.aligner().all == 296_448
    assert costs.codebook().all == 17_665
    assert costs.codebook(3, 2, 16, 128).all == 270_342
    assert costs.translator().all == 116_960
    assert costs.translator().used == 116_960 - (9 * 16 * 16 + 16)  # its last convolution is not run
    heads = costs.translator("convnext_with_modal_heads", targets=2)
    assert heads.all == heads.used == 160_928
    assert costs.translator(width=128, out=128).all * 2 == 547_200


@pytest.mark.parametrize(("modality", "elements"), NETWORKS.items())
def test_networks_have_the_published_sizes(modality, elements):
    network, backend = costs.stage_0(modality)
    assert network.all == elements
    assert backend.all == 5_237_847


@pytest.mark.parametrize(
    ("shape", "elements"),
    [
        (costs.Bookkeeping((1,)), 431_073),
        (costs.Bookkeeping((1,), directions=2), 548_033),
        (costs.Bookkeeping((1,), "convnext_with_modal_heads"), 475_041),
        (costs.Bookkeeping((1, 1, 1)), 1_293_219),
        (costs.Bookkeeping((3,)), 1_023_969),
        (costs.Bookkeeping((1,), joins=True), 296_448),
        (costs.Bookkeeping((2,), directions=0, backend=True), 5_848_408),
    ],
)
def test_shapes_of_groups_cost_what_they_should(shape, elements):
    assert shape.total().all == elements


def test_the_tool_prints_every_table(capsys, tmp_path):
    tool.main([])
    text = capsys.readouterr().out
    assert "18,000,196" in text and "7.2 %" in text and "262,144" in text
    tool.main(["--out", str(tmp_path / "costs.md")])
    assert (tmp_path / "costs.md").read_text().count("| --- |") == 3


SHIPPED_STAGE = "opv2v/Heter_group/codebook/codebook_pyramid_fixenc_aligner.yaml"


def stage(modality, words=16, name=SHIPPED_STAGE, core_method=None):
    """A shipped stage 1 for another modality of its library, and other words (None: maps)."""
    hypes = load_file(SHIPPED / name)
    args = {key: value for key, value in hypes["model"]["args"].items() if not key.startswith("m1")}
    args["codebook"] = words and {"seg_num": 1, "dict_size": words, "r": 1}
    content = {**hypes, "heter": {**hypes["heter"], "ego_modality": [modality], "modality_setting": {}}}
    content["model"] = {"core_method": core_method or hypes["model"]["core_method"], "args": args}
    return reparse(hypes.replaced(content))


@pytest.mark.parametrize(
    ("hypes", "bits"),
    [
        (stage("m1"), costs.bits_for(16) * costs.LIDAR_CELLS),
        (stage("m1", 4), costs.bits_for(4) * costs.LIDAR_CELLS),
        (stage("m1", None), costs.FLOAT_BITS * costs.WIDTH * costs.LIDAR_CELLS),
        (stage("m1", name="dairv2x/Heter/codebook_pyramid_lidar.yaml"), 4 * 128 * 256),
        (stage("m6"), 4 * costs.LIDAR_CELLS),  # a camera's map is padded before it is coded...
        (stage("m6", core_method="heter_codebook_shared_head_reorder"), 4 * costs.CAMERA_CELLS),  # ... but not here
    ],
)
def test_messages_that_detectors_send_have_the_sizes_of_the_table(hypes, bits):
    [modality] = hypes["heter"]["ego_modality"]
    assert payload_bits(sent_messages(hypes, [modality])[modality]) == bits


@pytest.mark.parametrize("modality", ["m2", "m3", "m6", "m7"])
def test_parameters_that_count_as_used_are_those_with_a_gradient(modality):
    hypes = stage(modality, None)
    args = {**hypes["model"]["args"], "fix_encoder": False, "fix_backend": False}
    with META:
        model = build_from_scratch(hypes.replaced({**hypes, "model": {**hypes["model"], "args": args}})).train()
    with without_content(model):
        outputs = model(meta_batch(hypes, [modality], model.assembly.batch_key, 900))
    torch.stack([tensor.sum() for tensor in tensors_in(outputs) if tensor.requires_grad]).sum().backward()
    network = [parameter for name, parameter in model.named_parameters() if name.startswith(("encoder_", "backbone_"))]
    used = sum(parameter.numel() for parameter in network if parameter.grad is not None)
    assert costs.stage_0(modality)[0] == costs.Count(NETWORKS[modality], used)
