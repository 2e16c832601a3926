"""Distances between features."""

import pytest
import torch

from opencood.experiments.feature_view import cka, cosine, mmd


@pytest.fixture
def features():
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_cka_ignores_rotation_and_scale(features):
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    assert cka(features, 3 * features @ rotation + 5) == pytest.approx(1)
    other = torch.randn(200, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert cka(features, other) < 0.2


def test_mmd_is_zero_for_the_same_and_grows_with_the_shift(features):
    assert mmd(features, features.flip(0)) == pytest.approx(0, abs=1e-12)
    assert 0 < mmd(features, features + 0.5) < mmd(features, features + 2)


def test_cosine(features):
    assert cosine(features, 2 * features) == pytest.approx(1)
    assert cosine(features, -features) == pytest.approx(-1)
