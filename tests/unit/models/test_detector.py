"""Every row of the table builds, runs, trains, and survives awkward batches."""

import copy

import pytest
import torch
from model_samples import COLLABORATIVE, FUSIONS, MODELS, batch, cloud, hypes

from opencood.errors import DataError
from opencood.models.build import build_model


@pytest.mark.parametrize("name", [name for name, args in MODELS.items() if "dir_args" in args])
def test_forward_and_backward(name):
    model = build_model(hypes(name))
    outputs = model(batch(name))
    rows = 2 if name in COLLABORATIVE else 5
    assert outputs["cls_preds"].shape[:2] == (rows, 2)
    assert outputs["reg_preds"].shape[:2] == (rows, 14)
    assert outputs["dir_preds"].shape[:2] == (rows, 4)
    sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds", "dir_preds")).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("method", FUSIONS)
def test_every_fusion_trains(method):
    model = build_model(hypes("heter_model_baseline", **{"fusion_method": method, method: FUSIONS[method]}))
    model(batch("heter_model_baseline"))["reg_preds"].square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    silent = [name for name, p in model.named_parameters() if p.grad is None and "prior_feed" not in name]
    assert all("head" in name or "_linears.1" in name for name in silent), silent


@pytest.mark.parametrize("name", MODELS)
def test_building_leaves_the_configuration_alone(name):
    config = hypes(name)
    before = copy.deepcopy(config)
    build_model(config)
    assert config == before


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_of_a_model_is_a_model_of_its_own(name):
    model = build_model(hypes(name)).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        assert not torch.equal(model(batch(name))["reg_preds"], twin(batch(name))["reg_preds"])


@pytest.mark.parametrize("name", MODELS)
def test_agents_without_points_are_agents(name):
    model = build_model(hypes(name)).eval()
    sample = batch(name)
    key = next(k for k in sample if k in ("inputs_m1", "processed_lidar"))
    for seen in ([0, 1, 2, 3], [1, 3], []):
        with torch.no_grad():
            outputs = model({**sample, key: cloud(seen)})
        assert outputs["cls_preds"].shape == model(sample)["cls_preds"].shape
        assert torch.isfinite(outputs["reg_preds"]).all()


def test_one_pillar_in_the_whole_batch():
    model = build_model(hypes("point_pillar")).eval()
    outputs = model({"processed_lidar": cloud([0], pillars=1)})
    assert outputs["cls_preds"].shape[0] == 1


def test_scenes_of_a_batch_do_not_mix():
    name = "heter_model_baseline"
    model = build_model(hypes(name)).eval()
    with torch.no_grad():
        both = model(batch(name, (3, 2)))["reg_preds"]
        first = batch(name, (3, 2))
        first["inputs_m1"] = cloud([0, 1, 2])
        alone = model(first)["reg_preds"]
    assert torch.allclose(both[0], alone[0], atol=1e-6)
    assert not torch.allclose(both[1], alone[1], atol=1e-6)


def test_modalities_are_put_back_in_agent_order():
    args = MODELS["heter_model_baseline"]
    model = build_model(hypes("heter_model_baseline", m2=args["m1"])).eval()
    sample = batch("heter_model_baseline", (3,))
    both = {**sample, "agent_modality_list": ["m1", "m2", "m1"], "inputs_m2": cloud([0], seed=1)}
    both["inputs_m1"] = cloud([0, 1])
    with torch.no_grad():
        maps = model.encode(both).map
        single = model._see("m2", both["inputs_m2"], 1)[0]
    assert maps.shape[0] == 3
    assert torch.allclose(maps[1], single[0], atol=1e-6)


def test_single_heads_see_every_agent():
    model = build_model(hypes("heter_model_baseline", supervise_single=True, in_head_single=24)).eval()
    outputs = model(batch("heter_model_baseline"))
    assert outputs["cls_preds_single"].shape[0] == 5
    assert outputs["cls_preds"].shape[0] == 2
    assert "cls_head_single.weight" in model.state_dict()


def test_batches_that_lack_what_is_needed_are_named():
    model = build_model(hypes("heter_model_baseline"))
    with pytest.raises(DataError, match="inputs_m1"):
        model({"processed_lidar": cloud([0])})
    sample = batch("heter_model_baseline", (2,))
    with pytest.raises(DataError, match="m7"):
        model({**sample, "agent_modality_list": ["m1", "m7"]})


def test_outputs_have_the_names_of_their_repository():
    config = hypes("point_pillar") | {"flavor": "opencood"}
    assert set(build_model(config).eval()(batch("point_pillar"))) == {"psm", "rm", "dm"}


@pytest.mark.parametrize(("flavor", "prefix"), [("heal", "pyramid_backbone."), ("codealign", "fusion_backbone.")])
def test_the_pyramid_has_the_name_of_its_repository(flavor, prefix):
    model = build_model(hypes("heter_pyramid_collab") | {"flavor": flavor}, train_flag=False)
    assert any(key.startswith(prefix) for key in model.state_dict())
