"""Parts of a detector that start from a checkpoint of another training, such as pretraining (spec coopre.md 7)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from opencood.errors import CheckpointError, ConfigError
from opencood.models.checkpoints import LoadReport, find_checkpoint, read_state_dict, refuse_nan
from opencood.models.sparse.layers import in_layout_of

log = logging.getLogger(__name__)
LATEST = "latest.pth"
COUNTER = "num_batches_tracked"
Modules = Sequence[str] | Mapping[str, str]


def initialise(
    model: nn.Module,
    path: str | os.PathLike[str],
    modules: Modules | None = None,
    strict: bool = True,
    idle_parts: bool = False,
) -> LoadReport:
    """Load parts of a checkpoint into a model and say what came and what did not.

    Args:
        model: gets the weights.
        path: a checkpoint file, or a run folder: ``latest.pth``, else the best by validation, else the latest epoch.
        modules: names of the parts (``backbone_3d``), or ours to theirs (``{encoder_m1.pillar_vfe: pillar_vfe}``); None
            takes all parts whose names both sides have.
        strict: the parts must be complete. What the file holds besides, such as decoders, is left in any case.
        idle_parts: without ``modules``, also take parts that the other training never ran: they hold nothing but
            initial values, which is told by batch norms that never saw a batch.

    Returns:
        what was loaded, what the model has besides (below the parts), and what the file has.

    Raises:
        CheckpointError: there is no checkpoint, a part is incomplete, has other shapes, holds NaN, or nothing fits.
        ConfigError: the model has no such part.
    """
    file = checkpoint_of(path)
    theirs = read_state_dict(file)
    own = model.state_dict()
    pairs = _named(modules) if modules is not None else _common(own, theirs, idle_parts)
    renamed = {ours + key[len(their) :]: value for ours, their in pairs.items() for key, value in _below(theirs, their)}
    found = in_layout_of(model, renamed)
    wanted = [key for ours in pairs for key, _ in _below(own, ours)]
    fitting = {key: found[key] for key in wanted if key in found and found[key].shape == own[key].shape}
    report = LoadReport(
        missing=tuple(key for key in wanted if key not in found),
        unexpected=tuple(key for key in found if key not in own),
        misshapen=tuple(
            f"{key}: file {list(found[key].shape)}, model {list(own[key].shape)}"
            for key in wanted
            if key in found and key not in fitting
        ),
        loaded=tuple(fitting),
    )
    _refuse(file, pairs, own, theirs, report, strict and modules is not None)
    refuse_nan(file, fitting)
    model.load_state_dict(fitting, strict=False)
    left = [name for name in _tops(own) if not any(key.startswith(f"{name}.") for key in fitting)]
    log.info("init_from: %s: %s. Not from there: %s.", file, report, ", ".join(left) or "nothing")
    return report


def checkpoint_of(path: str | os.PathLike[str]) -> Path:
    """The checkpoint file that a path means.

    Raises:
        CheckpointError: there is none.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        return place
    if (place / LATEST).is_file():
        return place / LATEST
    found = find_checkpoint(place)
    if found is None:
        raise CheckpointError(f"{place}: holds no {LATEST} and no net_epoch*.pth to start from.")
    return found[0]


def _named(modules: Modules) -> dict[str, str]:
    """Ours to theirs."""
    named = dict(modules) if isinstance(modules, Mapping) else {name: name for name in modules}
    if not named or not all(isinstance(name, str) and name for pair in named.items() for name in pair):
        raise ConfigError(f"init_from.modules: expected names of parts, or {{ours: theirs}}, found {modules!r}.")
    return named


def _common(own: Iterable[str], theirs: Mapping[str, Tensor], idle_parts: bool) -> dict[str, str]:
    """The parts at the top that both have, without those that were never run."""
    shared = [name for name in _tops(own) if name in _tops(theirs)]
    idle = [] if idle_parts else [name for name in shared if _never_ran(theirs, name)]
    if idle:
        log.info("init_from: %s was never run there and starts anew.", ", ".join(idle))
    return {name: name for name in shared if name not in idle}


def _never_ran(content: Mapping[str, Tensor], name: str) -> bool:
    counters = [value for key, value in _below(content, name) if key.endswith(COUNTER)]
    return bool(counters) and not any(bool(value.any()) for value in counters)


def _refuse(
    file: Path,
    pairs: Mapping[str, str],
    own: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    report: LoadReport,
    complete: bool,
) -> None:
    for ours, their in pairs.items():
        if not _below(own, ours):
            raise ConfigError(f"init_from.modules: the model has no part '{ours}'; it has {', '.join(_tops(own))}.")
        if not _below(theirs, their):
            raise CheckpointError(f"{file}: has no part '{their}' (init_from); it has {', '.join(_tops(theirs))}.")
    if not report.loaded or report.misshapen or (complete and report.missing):
        reason = report if report.loaded or report.misshapen else f"nothing of it fits: {', '.join(_tops(theirs))}"
        raise CheckpointError(
            f"{file}: does not fit the parts that init_from asks for: {reason}. Give both trainings the same encoder, "
            "name other modules, or set init_from.strict: false to leave what is missing as it is."
        )


def _below(content: Mapping[str, Tensor], name: str) -> list[tuple[str, Tensor]]:
    return [(key, value) for key, value in content.items() if key.startswith(f"{name}.")]


def _tops(content: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.partition(".")[0] for key in content))
