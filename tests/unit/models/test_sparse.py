"""Sparse convolution against a dense conv3d: forward and backward, any sparsity, and weights of both libraries."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import CheckpointError, ConfigError, DataError
from opencood.models.sparse import spconv_backend
from opencood.models.sparse.convolution import convolve_plain
from opencood.models.sparse.index_sets import Kernel, index_set
from opencood.models.sparse.layers import SiteNorm, SparseBlock, SparseConvolution
from opencood.models.sparse.spconv_backend import convolve as convolve_spconv
from opencood.models.sparse.volume import Sites, SparseTensor
from opencood.models.sparse.weights import sparse_weight_to_v2, tap_matrices

SUBMANIFOLD = (Kernel((3, 3, 3), submanifold=True), Kernel((1, 3, 5), submanifold=True))
STRIDED = (
    Kernel((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    Kernel((3, 3, 3), (2, 2, 2), (0, 1, 1)),
    Kernel((3, 1, 1), (2, 1, 1)),
    Kernel((2, 3, 1), (3, 1, 2), (1, 0, 0)),
)
volumes = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(3, 7), st.integers(3, 6), st.integers(3, 9)),
        "agents": st.integers(1, 3),
        "share": st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0]),
        "seed": st.integers(0, 9999),
    }
)


def random_volume(shape, agents, share, seed, channels=4):
    """A volume in shuffled order, in double precision, that wants its gradient."""
    generator = torch.Generator().manual_seed(seed)
    coords = (torch.rand(agents, *shape, generator=generator) < share).nonzero()
    coords = coords[torch.randperm(len(coords), generator=generator)]
    features = torch.randn(len(coords), channels, generator=generator, dtype=torch.float64).requires_grad_()
    return features, SparseTensor.of(features, coords.int(), shape, agents)


def dense_oracle(volume, weight, kernel):
    padding = tuple(side // 2 for side in kernel.size) if kernel.submanifold else kernel.padding
    return F.conv3d(volume.dense(), weight.permute(0, 4, 1, 2, 3), stride=kernel.stride, padding=padding)


def active_cells(volume, kernel):
    """1 where an output is active: where an input is, or where a window meets an active input."""
    ones = volume.with_features(torch.ones(len(volume.sites), 1, dtype=torch.float64))
    if kernel.submanifold:
        return ones.dense()
    window = torch.ones(1, *kernel.size, 1, dtype=torch.float64)
    return (dense_oracle(ones, window, kernel) > 0).double()


@settings(deadline=None, max_examples=40)
@given(volume=volumes, kernel=st.sampled_from(SUBMANIFOLD + STRIDED))
def test_equals_a_dense_convolution(volume, kernel):
    features, sparse = random_volume(**volume)
    weight = torch.randn(5, *kernel.size, 4, dtype=torch.float64, requires_grad=True)
    out = convolve_plain(sparse, tap_matrices(weight, 4), kernel)
    active = active_cells(sparse, kernel)
    expected = dense_oracle(sparse, weight, kernel) * active
    assert out.sites.shape == tuple(expected.shape[2:])
    assert len(out.sites) == int(active.sum())
    assert torch.allclose(out.dense(), expected, atol=1e-9)

    probe = torch.randn_like(expected)
    ours = torch.autograd.grad((out.dense() * probe).sum(), (features, weight), retain_graph=True)
    theirs = torch.autograd.grad((expected * probe).sum(), (features, weight))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(volume=volumes)
def test_a_network_in_single_precision_stays_within_1e_4(volume):
    features, sparse = random_volume(**volume, channels=8)
    single = sparse.with_features(sparse.features.float())
    layers = [SparseConvolution(8, 16, SUBMANIFOLD[0]), SparseConvolution(16, 16, STRIDED[0])]
    out, dense = single, sparse
    for layer in layers:
        out = layer(out)
        dense = convolve_plain(dense, tap_matrices(layer.weight.double(), layer.arriving), layer.kernel)
    assert torch.allclose(out.features.double(), dense.features, atol=1e-4)
    (ours,) = torch.autograd.grad(out.features.square().sum(), features, retain_graph=True)
    (theirs,) = torch.autograd.grad(dense.features.square().sum(), features)
    assert torch.allclose(ours, theirs, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(volume=volumes)
def test_dense_and_sparse_are_the_same_volume(volume):
    _, sparse = random_volume(**volume)
    dense = sparse.dense()
    agent, z, y, x = sparse.sites.coords.unbind(1)
    assert torch.equal(dense[agent, :, z, y, x], sparse.features)
    assert torch.count_nonzero(dense) == torch.count_nonzero(sparse.features)


def test_layers_on_the_same_sites_share_an_index_set():
    _, sparse = random_volume((4, 5, 6), 2, 0.3, 0)
    kernel = Kernel((3, 3, 3), submanifold=True)
    out = convolve_plain(sparse, torch.randn(27, 4, 4, dtype=torch.float64), kernel)
    assert out.sites is sparse.sites
    assert index_set(out.sites, Kernel((3, 3, 3), submanifold=True)) is index_set(sparse.sites, kernel)


def test_nothing_outlives_its_batch():
    """No cycle keeps the index sets of a batch, which on a GPU are most of its memory."""
    gc.disable()
    try:
        _, sparse = random_volume((4, 5, 6), 2, 0.3, 0)
        sites = weakref.ref(sparse.sites)
        matrices = torch.randn(27, 4, 4, dtype=torch.float64)
        out = convolve_plain(convolve_plain(sparse, matrices, SUBMANIFOLD[0]), matrices, STRIDED[0])
        out.features.sum().backward()
        del sparse, out
        assert sites() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("sites", [0, 1])
def test_almost_nothing_to_see(sites):
    """No statistics can be made of fewer than two sites: training goes on, and what was learnt stays."""
    block = SparseBlock(4, 8, Kernel((3, 3, 3), submanifold=True)).train()
    features = torch.randn(sites, 4, requires_grad=True)
    out = block(SparseTensor.of(features, torch.tensor([[1, 2, 2, 2]])[:sites], (5, 5, 5), 3)).dense()
    out.sum().backward()
    assert out.shape == (3, 8, 5, 5, 5)
    assert torch.isfinite(block[0].weight.grad).all()
    assert torch.equal(block[1].running_mean, torch.zeros(8))
    assert out[[0, 2]].abs().sum() == 0


def test_norm_is_that_of_the_family():
    norm, plain = SiteNorm(4), torch.nn.BatchNorm1d(4, eps=1e-3, momentum=0.01)
    features = torch.randn(20, 4) * 3 + 1
    assert torch.equal(norm(features), plain(features))
    assert torch.equal(norm.running_var, plain.running_var)
    assert torch.equal(norm.eval()(features[:1]), plain.eval()(features[:1]))


def test_a_cell_outside_the_grid_is_refused():
    with pytest.raises(DataError, match=r"cell \[0, 4, 0, 0\].*\[1, 4, 4, 4\].*voxel_size"):
        SparseTensor.of(torch.zeros(1, 1), torch.tensor([[0, 4, 0, 0]]), (4, 4, 4), 1)


def test_autocast_leaves_the_sums_in_single_precision():
    volume = SparseTensor.of(torch.randn(3, 4), torch.tensor([[0, 0, 0, x] for x in range(3)]), (3, 3, 3), 1)
    layer = SparseConvolution(4, 8, Kernel((3, 3, 3), submanifold=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(volume.with_features(volume.features.bfloat16()))
    assert out.features.dtype == torch.float32


# --- weights ------------------------------------------------------------------------------------


def test_weights_of_the_older_library_are_loaded():
    layer = SparseConvolution(4, 8, Kernel((3, 1, 2)))
    weight = torch.randn(8, 3, 1, 2, 4)
    layer.load_state_dict({"weight": weight.permute(1, 2, 3, 4, 0)})
    assert torch.equal(layer.weight, weight)
    layer.load_state_dict({"weight": weight})
    assert torch.equal(layer.weight, weight)


def test_an_over_wide_first_layer_is_the_narrow_one_of_its_first_matrices():
    """Whether the model keeps the declared width or has the true one, it computes what the 1.x library did."""
    kernel = Kernel((3, 3, 3), submanifold=True)
    published = torch.randn(3, 3, 3, 64, 16)
    wide, narrow = SparseConvolution(64, 16, kernel, arriving=4), SparseConvolution(4, 16, kernel)
    for layer in (wide, narrow):
        layer.load_state_dict({"weight": published})
    assert wide.weight.shape == (16, 3, 3, 3, 64)
    coords = torch.tensor([[0, 1, 1, x] for x in range(5)])
    volume = SparseTensor.of(torch.randn(5, 4), coords, (3, 3, 6), 1)
    assert torch.equal(wide(volume).features, narrow(volume).features)
    first = published.reshape(-1, 4, 16)[:27]
    assert torch.allclose(narrow(volume).features, convolve_plain(volume, first, kernel).features)


def test_widths_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="layer for 3 channels cannot take the 4"):
        SparseConvolution(3, 8, Kernel((3, 3, 3)), arriving=4)
    with pytest.raises(CheckpointError, match="cannot become"):
        sparse_weight_to_v2(torch.zeros(3, 3, 3, 2, 7), (5, 3, 3, 3, 4))
    with pytest.raises(RuntimeError, match="size mismatch"):
        SparseConvolution(4, 8, Kernel((3, 3, 3))).load_state_dict({"weight": torch.zeros(2, 2)})


# --- the other library --------------------------------------------------------------------------


def test_the_cpu_never_needs_spconv(monkeypatch):
    monkeypatch.setattr(spconv_backend, "available", lambda: True)
    monkeypatch.setattr(spconv_backend, "convolve", None)
    volume = SparseTensor.of(torch.randn(1, 4), torch.tensor([[0, 1, 1, 1]]), (3, 3, 3), 1)
    assert SparseConvolution(4, 8, STRIDED[0])(volume).features.shape == (8, 8)


@pytest.mark.parametrize("kernel", SUBMANIFOLD[:1] + STRIDED[:3])
def test_spconv_computes_the_same(kernel):
    pytest.importorskip("spconv.pytorch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _, sparse = random_volume((9, 10, 11), 2, 0.3, 0, channels=16)
    features = sparse.features.detach().float().to(device).requires_grad_()
    volume = SparseTensor(features, Sites(sparse.sites.coords.to(device), sparse.sites.shape, 2))
    matrices = torch.randn(kernel.taps, 16, 32, device=device, requires_grad=True)
    ours, theirs = (convolution(volume, matrices, kernel).dense() for convolution in (convolve_plain, convolve_spconv))
    assert torch.allclose(ours, theirs, atol=1e-4)
    if device == "cuda":  # spconv has no backward pass on the CPU
        probe = torch.randn_like(ours)
        for mine, other in zip(*(_gradients(out, probe, features, matrices) for out in (ours, theirs)), strict=True):
            assert torch.allclose(mine, other, atol=1e-3, rtol=1e-4)


def _gradients(outputs, probe, *leaves):
    return torch.autograd.grad((outputs * probe).sum(), leaves, retain_graph=True)
