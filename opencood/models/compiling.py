"""``torch.compile`` for the dense part of a detector, opt-in (``train_params.compile``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from opencood.models.backbones.aligner import AlignNet
from opencood.models.backbones.base_bev import BaseBEVBackbone
from opencood.models.backbones.resnet import ResNetBEVBackbone
from opencood.models.backbones.shrink import DownsampleConv
from opencood.models.encoders.trunks.image import ImageEncoder

_DENSE = (AlignNet, BaseBEVBackbone, DownsampleConv, ImageEncoder, ResNetBEVBackbone)
# Methods of backbones that the fuse stage calls in the place of forward.
_BY_LEVELS = ("levels", "decode")


def compile_dense(model: nn.Module, **options: Any) -> list[str]:
    """Compile, in place, what turns maps into maps: image trunks, backbones, aligners, shrinkers.

    What places points, groups agents or warps stays as it is: its shapes change with every frame. Names in the state
    dict do not change.

    Args:
        options: of ``torch.compile``, such as ``backend``.

    Returns:
        names of the parts that are compiled now; none in a model that is made of other parts.
    """
    compiled = []
    for name, part in model.named_modules():
        if isinstance(part, _DENSE):
            part.compile(**options)
            _compile_methods(part, options)
            compiled.append(name)
    return compiled


def _compile_methods(part: nn.Module, options: dict[str, Any]) -> None:
    for name in _BY_LEVELS:
        method: Callable[..., Any] | None = getattr(part, name, None)
        if method is not None:
            setattr(part, name, torch.compile(method, **options))
