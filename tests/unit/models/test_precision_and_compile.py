"""Half precision and ``torch.compile`` change how a detector is computed, not what."""

import pytest
import torch
from model_samples import FUSIONS, batch, hypes
from test_cameras import ARGS, SQUARE, pictures

from opencood.models.build import build_model
from opencood.models.compiling import compile_dense

CAMERA = {
    "core_method": "lift_splat_shoot",
    "sensor_type": "camera",
    "encoder_args": ARGS | {"grid_conf": SQUARE, "img_features": 16},
    "backbone_args": {"layer_nums": [1], "layer_strides": [1], "num_filters": [16], "inplanes": 16},
    "aligner_args": {"core_method": "identity"},
    "camera_mask_args": {"cam_crop_info": None, "grid_conf": SQUARE},
}
OUTPUTS = ("cls_preds", "reg_preds", "dir_preds")


def pyramid():
    return build_model(hypes("heter_pyramid_collab")), batch("heter_pyramid_collab")


def v2xvit():
    changes = {"fusion_method": "v2xvit", "v2xvit": FUSIONS["v2xvit"]}
    return build_model(hypes("heter_model_baseline", **changes)), batch("heter_model_baseline")


def lidar_and_camera():
    model = build_model(hypes("heter_pyramid_collab", m2=CAMERA))
    content = batch("heter_pyramid_collab")
    names = ["m1", "m2", "m1", "m1", "m1"]
    lidar = batch("heter_pyramid_collab", (4,))["inputs_m1"]
    return model, content | {"agent_modality_list": names, "inputs_m1": lidar, "inputs_m2": pictures(1)}


MODELS = pytest.mark.parametrize("make", [pyramid, v2xvit, lidar_and_camera])


def built(make):
    torch.manual_seed(0)
    model, content = make()
    return model.eval(), content


def gradients(model, content, dtype=None):
    """Outputs and gradients of one backward pass, batch statistics left alone."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        outputs = model(content)
    sum(outputs[key].float().square().mean() for key in OUTPUTS).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {key: outputs[key].detach().float() for key in OUTPUTS}, grads


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp(min=1e-6))


@MODELS
def test_bf16_is_the_same_to_its_precision(make):
    model, content = built(make)
    (exact, exact_grads), (rough, rough_grads) = gradients(model, content), gradients(model, content, torch.bfloat16)
    assert all(relative(rough[key], exact[key]) < 0.05 for key in OUTPUTS)
    assert any(not torch.equal(rough[key], exact[key]) for key in OUTPUTS)
    assert rough_grads.keys() == exact_grads.keys()
    for name in ("cls_head.weight", "reg_head.weight"):
        assert relative(rough_grads[name], exact_grads[name]) < 0.1, name
    assert all(bool(grad.isfinite().all()) for grad in rough_grads.values())


@MODELS
def test_compiled_is_the_same(make):
    model, content = built(make)
    names = list(model.state_dict())
    plain, plain_grads = gradients(model, content)
    assert compile_dense(model, backend="aot_eager")
    compiled, compiled_grads = gradients(model, content)
    for key in OUTPUTS:
        torch.testing.assert_close(compiled[key], plain[key], atol=1e-5, rtol=1e-4)
    assert compiled_grads.keys() == plain_grads.keys()
    assert all(
        relative(compiled_grads[name], plain_grads[name]) < 1e-3 for name in ("cls_head.weight", "reg_head.weight")
    )
    assert list(model.state_dict()) == names


def test_a_compiled_detector_is_really_compiled():
    seen = []

    def backend(graph, inputs):
        seen.append(len(graph.graph.nodes))
        return graph.forward

    model, content = built(pyramid)
    compile_dense(model, backend=backend)
    model(content)
    assert len(seen) >= 3 and max(seen) > 5


def test_what_has_no_dense_part_stays_as_it_is():
    assert compile_dense(torch.nn.Linear(2, 2)) == []
