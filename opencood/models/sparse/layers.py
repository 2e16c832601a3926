"""Layers on sparse volumes, with the entries of spconv 2.x in the state dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, empty, nn

from opencood.errors import ConfigError
from opencood.models.sparse.convolution import convolve
from opencood.models.sparse.index_sets import Kernel
from opencood.models.sparse.volume import SparseTensor
from opencood.models.sparse.weights import fits, sparse_weight_to_v2, tap_matrices


class SparseConvolution(nn.Module):
    """Convolution of a sparse volume; weight (out, kz, ky, kx, in). Loads weights of spconv 1.x too.

    Args:
        in_channels: channels of the weight.
        arriving: channels of the volume when they are fewer (spec models.md 6.3); as many by default.
        bias: whether the active sites of the output get a bias.

    Raises:
        ConfigError: a weight of that width cannot serve that many channels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Kernel, arriving: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.arriving = in_channels if arriving is None else arriving
        if in_channels < self.arriving or kernel.taps * in_channels % self.arriving:
            raise ConfigError(
                f"sparse convolution: a layer for {in_channels} channels cannot take the {self.arriving} that arrive."
            )
        self.weight = nn.Parameter(empty(out_channels, *kernel.size, in_channels))
        self.bias = nn.Parameter(empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(kernel.taps * self.arriving)  # that of PyTorch's own convolutions
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, volume: SparseTensor) -> SparseTensor:
        """A volume of ``out_channels``."""
        convolved = convolve(volume, tap_matrices(self.weight, self.arriving), self.kernel)
        return convolved if self.bias is None else convolved.with_features(convolved.features + self.bias)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"{self.weight.shape[4]}, {self.weight.shape[0]}, {self.kernel}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}weight")
        if isinstance(stored, Tensor) and fits(stored.shape, self.weight.shape):
            state_dict = {**state_dict, f"{prefix}weight": sparse_weight_to_v2(stored, self.weight.shape)}
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SiteNorm(nn.BatchNorm1d):
    """Batch norm over the active sites; in training, fewer than two sites are normed as in evaluation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(M, C) to (M, C)."""
        if len(features) > 1:
            return super().forward(features)
        return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SparseBlock(nn.Sequential):
    """Convolution, norm, ReLU: keys ``0.weight``, ``1.*``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Kernel, arriving: int | None = None) -> None:
        convolution = SparseConvolution(in_channels, out_channels, kernel, arriving)
        super().__init__(convolution, SiteNorm(out_channels), nn.ReLU(inplace=True))

    def forward(self, volume: SparseTensor) -> SparseTensor:
        """A volume of ``out_channels``."""
        convolution, norm, activation = self
        convolved = convolution(volume)
        return convolved.with_features(activation(norm(convolved.features)))


class SparseResidualBlock(nn.Module):
    """Two submanifold convolutions with bias and norm, and the way around them; keys ``conv{1,2}``, ``bn{1,2}``."""

    def __init__(self, channels: int, kernel: Kernel) -> None:
        super().__init__()
        self.conv1 = SparseConvolution(channels, channels, kernel, bias=True)
        self.bn1 = SiteNorm(channels)
        self.conv2 = SparseConvolution(channels, channels, kernel, bias=True)
        self.bn2 = SiteNorm(channels)

    def forward(self, volume: SparseTensor) -> SparseTensor:
        """A volume of the same channels and sites."""
        hidden = self.conv1(volume)
        hidden = self.conv2(hidden.with_features(self.bn1(hidden.features).relu()))
        return hidden.with_features((self.bn2(hidden.features) + volume.features).relu())


def in_layout_of(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the weights of the model's sparse convolutions in its own layout, where they can be."""
    shapes = {
        f"{name}.weight": module.weight.shape
        for name, module in model.named_modules()
        if isinstance(module, SparseConvolution)
    }
    fitting = (key for key, shape in shapes.items() if key in state and fits(state[key].shape, shape))
    return {**state, **{key: sparse_weight_to_v2(state[key], shapes[key]) for key in fitting}}
