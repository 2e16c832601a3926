"""Checks shared by backbones with several levels."""

from __future__ import annotations

from collections.abc import Sequence

from opencood.errors import ConfigError


def check_lists(layer_nums: Sequence[int], layer_strides: Sequence[int], num_filters: Sequence[int]) -> None:
    """Raise ConfigError unless the three lists describe the same number of levels."""
    lengths = {"layer_nums": len(layer_nums), "layer_strides": len(layer_strides), "num_filters": len(num_filters)}
    if len(set(lengths.values())) != 1 or not layer_nums:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"backbone: every level needs one value in each list, but {told}.")
