"""Weights that a configuration takes from the checkpoints of earlier stages, part by part.

What lands where is decided by whole names: ``encoder_m1`` never means ``encoder_m10``. Source: spec codealign.md 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from opencood.errors import CheckpointError, ConfigError
from opencood.models.checkpoints import LoadReport, read_state_dict
from opencood.models.sparse.layers import in_layout_of

log = logging.getLogger(__name__)
POLICIES = ("error", "scratch")


@dataclass(frozen=True)
class Transfer:
    """One part of a detector from one part of a checkpoint.

    Attributes:
        path: the file, relative to the working directory or to the YAML.
        where: key of the YAML that names it, for messages.
        ours: name of the part in the detector.
        theirs: names the part may have in the file; the first one that is there counts.
        strict: whether all entries must be there, and no others below the name.
        without: an entry of ours, by full name, that keeps its value.
    """

    path: str
    where: str
    ours: str
    theirs: tuple[str, ...]
    strict: bool = True
    without: str = ""


def transfer(
    detector: nn.Module, transfers: Sequence[Transfer], hypes: Mapping[str, Any]
) -> dict[Transfer, LoadReport]:
    """Load every part that the detector has, and say in the log what came from where.

    Args:
        hypes: the configuration. ``missing_checkpoints`` says what a missing file means: ``error``, or ``scratch``:
            its parts keep their initial values, and their reports are empty but for what is missing.

    Raises:
        CheckpointError: files are missing (all are named, before anything is loaded), or do not fit.
    """
    entries = detector.state_dict()
    wanted = [one for one in transfers if any(key.startswith(f"{one.ours}.") for key in entries)]
    files = {one.path: _resolved(one.path, hypes) for one in wanted}
    _refuse_missing([one for one in wanted if files[one.path] is None], hypes)
    contents = {path: read_state_dict(file) for path, file in files.items() if file is not None}
    reports = {
        one: _take(detector, entries, one, contents[one.path]) if one.path in contents else _nothing(entries, one)
        for one in wanted
    }
    for one, report in reports.items():
        if one.path in contents:
            log.info("%s from %s (%s): %s", one.ours, one.path, one.where, report)
    return reports


def _nothing(entries: Mapping[str, Tensor], one: Transfer) -> LoadReport:
    return LoadReport(tuple(key for key in entries if key.startswith(f"{one.ours}.")), (), (), ())


def _take(
    detector: nn.Module, entries: Mapping[str, Tensor], one: Transfer, content: Mapping[str, Tensor]
) -> LoadReport:
    name = next((name for name in one.theirs if any(key.startswith(f"{name}.") for key in content)), None)
    if name is None:
        names = ", ".join(dict.fromkeys(f"{key.partition('.')[0]}.*" for key in content))
        raise CheckpointError(
            f"{one.path}: {one.where} wants {' or '.join(f'{theirs}.*' for theirs in one.theirs)}, but it holds "
            f"{names}."
        )
    found = {one.ours + key[len(name) :]: value for key, value in content.items() if key.startswith(f"{name}.")}
    found = {key: value for key, value in in_layout_of(detector, found).items() if key != one.without}
    own = [key for key in entries if key.startswith(f"{one.ours}.") and key != one.without]
    fitting = {key: found[key] for key in own if key in found and found[key].shape == entries[key].shape}
    report = LoadReport(
        missing=tuple(key for key in own if key not in found),
        unexpected=tuple(key for key in found if key not in own),
        misshapen=tuple(
            f"{key}: file {list(found[key].shape)}, model {list(entries[key].shape)}"
            for key in own
            if key in found and key not in fitting
        ),
        loaded=tuple(fitting),
    )
    if report.misshapen or (one.strict and not report.complete):
        raise CheckpointError(f"{one.path}: does not fit {one.ours} ({one.where}): {report}")
    detector.load_state_dict(fitting, strict=False)
    return report


def _resolved(path: str, hypes: Mapping[str, Any]) -> Path | None:
    file = Path(path).expanduser()
    yaml = getattr(hypes, "path", None)
    places = [file] if yaml is None or file.is_absolute() else [file, Path(yaml).parent / file]
    return next((place for place in places if place.is_file()), None)


def _refuse_missing(missing: Iterable[Transfer], hypes: Mapping[str, Any]) -> None:
    policy = hypes.get("missing_checkpoints", "error")
    if policy not in POLICIES:
        raise ConfigError(f"missing_checkpoints: '{policy}' is none of {', '.join(POLICIES)}.")
    keys: dict[str, list[str]] = {}
    for one in missing:
        keys.setdefault(one.path, []).append(one.where)
    told = "; ".join(f"{path} ({', '.join(dict.fromkeys(where))})" for path, where in keys.items())
    if keys and policy == "scratch":
        log.warning("missing checkpoints, their parts start from scratch: %s", told)
    elif keys:
        raise CheckpointError(
            f"missing checkpoints: {told}. Paths are relative to the working directory or the YAML. Set "
            "missing_checkpoints: scratch to start their parts with random weights."
        )
