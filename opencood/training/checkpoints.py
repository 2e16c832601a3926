"""What a training run leaves in its folder: published weight files, and ``last.ckpt`` with everything a resume needs.

Every file appears whole or not at all: it is written beside its place and moved there. Source: spec tools.md section 1.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from opencood.errors import CheckpointError, StorageError

LAST = "last.ckpt"
FORMAT = 1
_BEST = re.compile(r"net_epoch_bestval_at(\d+)\.pth")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader, or a process killed meanwhile, never sees half of it.

    Raises:
        StorageError: it could not be written completely (disk full, no permission); what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); the previous file, if any, is intact. "
            "Free some space or check the folder's permissions, then start again with --model_dir."
        ) from error


def save(value: Any, path: Path) -> None:
    """``torch.save`` that appears atomically.

    Raises:
        StorageError: see ``write_atomically``.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_atomically(path, buffer.getbuffer())


def epoch_file(folder: Path, epoch: int) -> Path:
    """Weights after 0-based ``epoch``; file names count from 1."""
    return folder / f"net_epoch{epoch + 1}.pth"


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write a plain state dict, on the CPU, under the published names; see ``published_part``."""
    save({name: tensor.detach().cpu() for name, tensor in published_part(model).state_dict().items()}, path)


def published_part(model: torch.nn.Module) -> torch.nn.Module:
    """What of a model its weight files hold: all, unless it says which part is ``published``."""
    return getattr(model, "published", model)


def save_best(model: torch.nn.Module, folder: Path, epoch: int) -> Path:
    """Write ``net_epoch_bestval_at<N>.pth`` and then remove every older best file, so that exactly one is left."""
    path = folder / f"net_epoch_bestval_at{epoch + 1}.pth"
    save_weights(model, path)
    for other in folder.iterdir():
        if _BEST.fullmatch(other.name) and other != path:
            other.unlink()
    return path


def save_last(folder: Path, state: dict[str, Any]) -> None:
    """Write ``last.ckpt``."""
    save({"format": FORMAT, **state}, folder / LAST)


def read_last(folder: Path) -> dict[str, Any] | None:
    """Read ``last.ckpt``, None when there is none.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path}: damaged ({error}). Delete it to resume from the newest .pth file of the folder."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: no checkpoint of this version. Delete it to resume from the newest .pth file.")
    return state


def load_exactly(model: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load weights that must fit name for name and shape for shape.

    Raises:
        CheckpointError: they belong to another model.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: belongs to another model. {reason} Use the folder's own config.yaml, or start in a new folder."
        ) from error


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: Path) -> None:
    """Load an optimiser's state.

    Raises:
        CheckpointError: it belongs to another optimiser or other parameter groups.
    """
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: its optimiser state does not fit ({error}). Restore the optimizer section, or delete the "
            "file to resume from the newest .pth file with a fresh optimiser."
        ) from error


def trained_parameters(folder: Path) -> int | None:
    """Elements of the parameters that ever had a gradient, by the optimiser's state; None without ``last.ckpt``.

    Raises:
        CheckpointError: see :func:`read_last`.
    """
    state = read_last(folder)
    if state is None:
        return None
    moments = (entry.values() for entry in state["optimizer"]["state"].values())
    return sum(max((value.numel() for value in entry if torch.is_tensor(value)), default=0) for entry in moments)
