"""Parts by themselves: fusion against a loop over scenes and agents, pillars against a loop over points."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import FUSIONS, PILLARS, cloud

from opencood.errors import ConfigError
from opencood.geometry.warp import normalize_pairwise, warp
from opencood.models.backbones.crop import CenterFit
from opencood.models.diagnostics import first_nonfinite_module
from opencood.models.fusion.attention import AttFusion
from opencood.models.fusion.base import over_agents
from opencood.models.fusion.maximum import MaxFusion
from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.fusion.transformer import from_windows, to_windows
from opencood.models.fusion.v2xvit_attention import HeteroAgentAttention
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY

record_lens = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def scene(record_len, channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    slots = max(record_len)
    pairwise = torch.eye(4, dtype=torch.float64).repeat(len(record_len), slots, slots, 1, 1)
    pairwise[..., :2, 3] = torch.randn(*pairwise.shape[:3], 2, generator=generator, dtype=torch.float64) * 2
    pairwise[:, range(slots), range(slots)] = torch.eye(4, dtype=torch.float64)
    maps = torch.randn(sum(record_len), channels, 8, 12, generator=generator)
    return SceneFeatures((maps,), record_len, pairwise, (8.0, 12.0))


def by_scene(value, record_len):
    return value.split(list(record_len))


@settings(deadline=None, max_examples=20)
@given(record_len=record_lens)
def test_max_equals_a_loop(record_len):
    batch = scene(record_len)
    warped = by_scene(batch.to_ego(batch.map), record_len)
    assert torch.equal(MaxFusion()(batch), torch.stack([maps.amax(0) for maps in warped]))


@settings(deadline=None, max_examples=20)
@given(record_len=record_lens)
def test_attention_equals_a_loop(record_len):
    batch = scene(record_len)
    fused = []
    for maps in by_scene(batch.to_ego(batch.map), record_len):
        weights = torch.softmax((maps[:1] * maps).sum(1, keepdim=True) / 6**0.5, dim=0)
        fused.append((weights * maps).sum(0))
    assert torch.allclose(AttFusion(6)(batch), torch.stack(fused), atol=1e-6)


def test_agent_types_choose_projections_and_relations():
    attention = HeteroAgentAttention(6, heads=2, dim_head=3, dropout=0.0)
    x = torch.randn(2, 3, 2, 2, 6)
    kinds = torch.tensor([[0, 1, 1], [1, 0, 0]])
    absent = torch.tensor([[False, False, True], [False, False, False]])
    out = torch.zeros_like(x)
    for b, i in ((b, i) for b in range(2) for i in range(3)):
        others = [j for j in range(3) if not absent[b, j]]
        t = kinds[b].tolist()
        query = attention.q_linears[t[i]](x[b, i]).unflatten(-1, (2, 3))
        logits, values = [], []
        for j in others:
            relation = 2 * t[i] + t[j]
            key = attention.k_linears[t[j]](x[b, j]).unflatten(-1, (2, 3))
            value = attention.v_linears[t[j]](x[b, j]).unflatten(-1, (2, 3))
            logits.append(torch.einsum("xymp,mpq,xymq->xym", query, attention.relation_att[relation], key) / 3**0.5)
            values.append(torch.einsum("xymp,mpc->xymc", value, attention.relation_msg[relation]))
        weights = torch.stack(logits).softmax(0)
        heard = (weights[..., None] * torch.stack(values)).sum(0)
        out[b, i] = attention.a_linears[t[i]](heard.flatten(-2))
    assert torch.allclose(attention(x, absent, kinds), out, atol=1e-6)
    assert torch.allclose(attention(x, absent, torch.zeros(2, 3, dtype=torch.long)), attention(x, absent), atol=1e-6)


@pytest.mark.parametrize("dilated", [False, True])
def test_windows_are_undone(dilated):
    x = torch.randn(2, 3, 8, 12, 5)
    tokens = to_windows(x, 4, dilated)
    assert tokens.shape == (2, 2, 3, 3, 16, 5)
    assert torch.equal(from_windows(tokens, 4, dilated), x)
    corner = x[0, 0, ::2, ::3] if dilated else x[0, 0, :4, :4]
    assert torch.equal(tokens[0, 0, 0, 0], corner.reshape(16, 5))
    with pytest.raises(ConfigError, match="8 x 12.*windows of 5"):
        to_windows(x, 5)


@pytest.mark.parametrize("operator", ["avg", "max"])
def test_v2vnet_equals_a_loop_over_pairs(operator):
    net = REGISTRY.build("fusion", "v2vnet", FUSIONS["v2vnet"] | {"in_channels": 6, "agg_operator": operator}).eval()
    batch = scene((2, 3))
    states = list(batch.map.split([2, 3]))
    affine = normalize_pairwise(batch.pairwise, *batch.extent).float()
    for _ in range(net.rounds):
        states = [_round(net, maps, affine[b]) for b, maps in enumerate(states)]
    expected = torch.stack([net.mlp(maps[0].permute(1, 2, 0)).permute(2, 0, 1) for maps in states])
    assert torch.allclose(net(batch), expected, atol=1e-5)


def _round(net, maps, affine):
    """What every agent of one scene knows after one more round, agent by agent and pair by pair."""
    known = []
    for i, own in enumerate(maps):
        messages = []
        for j, other in enumerate(maps):
            heard = warp(other[None], affine[i, j][None])
            seen = warp(torch.ones_like(other[None, :1]), affine[i, j][None])
            messages.append(net.msg_cnn(torch.cat([heard, own[None]], dim=1)) * seen)
        joint = torch.stack(messages)
        joint = joint.amax(0) if net.largest else joint.mean(0)
        cell = net.conv_gru.cell_list[0]
        inputs = torch.cat([own[None], joint, torch.zeros_like(joint)], dim=1)
        update = cell.conv_gates(inputs).sigmoid()[:, 6:]
        known.append(update * cell.conv_can(inputs).tanh())
    return torch.cat(known)


def test_gradients_stay_finite_where_nobody_is():
    logits = torch.randn(2, 3, 1, 4, 4, requires_grad=True)
    present = torch.rand(2, 3, 1, 4, 4) > 0.5
    present[0, :, :, 0, 0] = False
    weights = over_agents(logits, present)
    assert weights[0, :, :, 0, 0].abs().sum() == 0
    assert torch.allclose(weights.sum(1)[present.any(1)], torch.ones(1))
    weights.square().sum().backward()
    assert torch.isfinite(logits.grad).all()


@settings(deadline=None, max_examples=20)
@given(record_len=record_lens, data=st.data())
def test_a_selection_is_the_smaller_scene(record_len, data):
    whole = scene(record_len)
    _, slot = whole.places
    keep = [bool(s == 0) or data.draw(st.booleans()) for s in slot.tolist()]
    part = whole.select(keep)
    assert part.agents == sum(keep) and min(part.record_len) >= 1
    kept = torch.tensor(keep)
    assert torch.equal(part.map, whole.map[kept])
    assert torch.equal(part.to_ego(part.map), whole.to_ego(whole.map)[kept])


def test_padding_keeps_agents_in_their_scene():
    batch = scene((2, 1, 3))
    padded = batch.pad(batch.map, fill=-1.0)
    assert padded.shape[:2] == (3, 3)
    assert torch.equal(padded[batch.places], batch.map)
    assert (padded[1, 1:] == -1).all()


@pytest.mark.parametrize("filters", [[16], [16, 8]])
@pytest.mark.parametrize("distance", [False, True])
def test_pillars_equal_a_loop_over_pillars(filters, distance):
    vfe = {"use_norm": False, "with_distance": distance, "use_absolute_xyz": True, "num_filters": filters}
    features = {"num_features": filters[-1]}
    encoder = REGISTRY.build("encoder", "point_pillar", PILLARS | {"pillar_vfe": vfe, "point_pillar_scatter": features})
    voxels = cloud([0, 2], pillars=9)
    canvas = torch.zeros(4, filters[-1], 32, 32)
    size, low = torch.tensor([0.4, 0.4, 4.0]), torch.tensor([-6.4, -6.4, -3.0])
    for points, (agent, z, y, x), count in zip(*voxels.values(), strict=True):
        mean = points[:, :3].sum(0) / count
        centre = torch.stack([x, y, z]) * size + size / 2 + low
        rows = [points, points[:, :3] - mean, points[:, :3] - centre]
        rows += [points[:, :3].norm(dim=1, keepdim=True)] if distance else []
        values = torch.cat(rows, dim=1)
        values[count:] = 0
        for layer in encoder.pillar_vfe.pfn_layers:
            values = torch.relu(layer.linear(values))
            values = (
                torch.cat([values, values.amax(0, keepdim=True).expand_as(values)], 1) if not layer.last else values
            )
        canvas[agent, :, y, x] = values.amax(0)
    encoded = encoder(voxels, agents=4).map
    assert encoded.is_contiguous()
    assert torch.allclose(encoded, canvas, atol=1e-5)


@pytest.mark.parametrize(("ratio", "size"), [(2.0, 16), (0.5, 4), (1.0, 8), (1.25, 10)])
def test_a_camera_map_is_fitted_about_its_centre(ratio, size):
    x = torch.zeros(1, 1, 8, 8)
    x[:, :, 3:5, 3:5] = 1
    fitted = CenterFit(ratio, ratio)(x)
    assert fitted.shape[-2:] == (size, size)
    assert fitted.sum() == 4 and torch.equal(fitted, fitted.flip(-1).flip(-2))


def test_a_cell_nobody_covers_is_zero():
    pyramid = PyramidFusion([1], [1], [6], [1], [4], inplanes=6).eval()
    batch = scene((2,))
    far = batch.pairwise.clone()
    far[:, 0, :, 0, 3] = 100.0
    occupied = SceneFeatures(batch.maps, batch.record_len, far, batch.extent)
    seen = []
    pyramid.deblocks.register_forward_hook(lambda *_: None)
    pyramid.decode = lambda levels: seen.append(levels[0]) or levels[0]
    pyramid.forward_collab(occupied)
    assert torch.equal(seen[0], torch.zeros_like(seen[0]))


def test_the_module_that_makes_nan_is_named():
    from torch import nn

    class Broken(nn.Module):
        def forward(self, x):
            return x / 0.0

    model = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 3), Broken()), nn.ReLU())
    statistics = model[0].running_mean.clone()
    assert first_nonfinite_module(model, torch.ones(4, 3)) == "1.1"
    assert torch.equal(model[0].running_mean, statistics)
    assert first_nonfinite_module(model, torch.full((4, 3), float("nan"))) == "input"
    assert first_nonfinite_module(model[0], torch.ones(4, 3)) is None
