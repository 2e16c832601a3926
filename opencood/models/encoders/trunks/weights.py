"""Weights of an image trunk from a local file, in the layout in which they are published."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

import torch
from torch import nn

from opencood.errors import CheckpointError
from opencood.models.checkpoints import read_state_dict

_LOG = logging.getLogger(__name__)


def load_trunk(trunk: nn.Module, path: str | os.PathLike[str] | None, unused: Iterable[str] = ()) -> None:
    """Fill a trunk from a file of ImageNet weights, or say once that it starts fresh.

    Args:
        trunk: what is filled, in place.
        path: file with a plain state dict; entries that the trunk does not have are left out. None starts fresh.
        unused: prefixes of entries that the file may lack, because they are never run.

    Raises:
        CheckpointError: the file cannot be read, or lacks or misshapes an entry that is run.
    """
    if path is None:
        _LOG.info("image trunk %s starts fresh: no trunk_weights file is given", type(trunk).__name__)
        return
    own, given = trunk.state_dict(), read_state_dict(path)
    wanted = [name for name in own if not name.endswith("num_batches_tracked") and not name.startswith(tuple(unused))]
    wrong = [name for name in wanted if name not in given or given[name].shape != own[name].shape]
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} of {len(wanted)} entries of the image trunk are missing or of another shape, first "
            f"'{wrong[0]}'; trunk_weights needs the ImageNet weights of the network that camera_encoder names."
        )
    fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    with torch.no_grad():
        trunk.load_state_dict(fitting, strict=False)
