"""What each ``--fusion_method`` runs, sends and is compared with (evaluation.md, section 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from opencood.communication import Channel
from opencood.errors import ConfigError, nearest
from opencood.experiments.late_messages import candidates_message

Batch = dict[str, dict[str, Any]]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class FusionMethod:
    """One way to get from a batch to boxes.

    Attributes:
        name: value of ``--fusion_method``.
        family: the family of data sets it needs (``late``, ``early``, ``intermediate``).
        alone: the ego works alone, so nothing is sent.
        own_ground_truth: compared with what the ego alone should see instead of with the objects of all agents.
        boxes: every agent of a fused sample detects by itself, in the ego's view, and sends its boxes.
    """

    name: str
    family: str
    alone: bool = False
    own_ground_truth: bool = False
    boxes: bool = False


METHODS = {
    method.name: method
    for method in (
        FusionMethod("intermediate", "intermediate"),
        FusionMethod("late_heter", "intermediate", boxes=True),
        FusionMethod("early", "early"),
        FusionMethod("late", "late"),
        FusionMethod("no", "late", alone=True),
        FusionMethod("single", "late", alone=True, own_ground_truth=True),
    )
}


ALIASES = {"nofusion": "no"}  # CooPre


def dataset_family(core_method: str) -> str:
    """``late``, ``early`` or ``intermediate``: the first word of ``fusion.core_method``, class names included."""
    word = re.match(r"late|early|intermediate", core_method, re.IGNORECASE)
    if word is None:
        raise ConfigError(
            f"fusion.core_method: '{core_method}' belongs to no fusion family (late..., early..., intermediate...)."
        )
    return word.group().lower()


def choose_method(requested: str | None, hypes: Mapping[str, Any]) -> FusionMethod:
    """The method asked for, or the configuration's own when none is.

    Raises:
        ConfigError: unknown method, or one that this configuration was not trained for; the message says what works.
    """
    core_method = str((hypes.get("fusion") or {}).get("core_method", ""))
    family = dataset_family(core_method)
    if requested is None:
        return METHODS[family]
    requested = ALIASES.get(requested, requested)
    if requested not in METHODS:
        raise ConfigError(
            f"--fusion_method: unknown '{requested}'.{nearest(requested, METHODS)} Valid: {', '.join(METHODS)}."
        )
    method = METHODS[requested]
    if method.family != family:
        fitting = ", ".join(name for name, known in METHODS.items() if known.family == family)
        raise ConfigError(
            f"--fusion_method {requested} contradicts the configuration: fusion.core_method is '{core_method}', so its "
            f"samples are made for {family} fusion, and {_needs(method)}. Use --fusion_method {fitting}; to see what "
            f"this detector finds with fewer agents, add --agents ego (or --agents 1..k)."
        )
    return method


def parse_agents(text: str | int | None) -> int | None:
    """Number of agents that take part: ``ego`` is 1, ``3`` and ``1..3`` are 3, None is all.

    Raises:
        ConfigError: anything else.
    """
    if text is None or text == "all":
        return None
    match = re.fullmatch(r"(?:1\.\.)?(\d+)", str(text).strip())
    count = 1 if text == "ego" else int(match.group(1)) if match else 0
    if count < 1:
        raise ConfigError(f"--agents: '{text}' is none of ego, a number from 1, or a range 1..k.")
    return count


def check_agents(method: FusionMethod, agents: int | None) -> None:
    """Refuse ``--agents`` beyond the ego where the method runs the ego alone."""
    if method.alone and agents not in (None, 1):
        raise ConfigError(
            f"--agents {agents} contradicts --fusion_method {method.name}, which runs the ego alone. "
            f"Use --fusion_method late --agents {agents}."
        )


def detect(
    method: FusionMethod, model: nn.Module, batch: Batch, channel: Channel, reduce: Callable[[Outputs], Outputs]
) -> tuple[Batch, Outputs]:
    """Run the detector as the method prescribes.

    Args:
        batch: agent -> entry; early and intermediate batches hold the single entry ``ego``.
        channel: what collaborators send goes through it; agents that take no part are not run.
        reduce: from an agent's outputs to the tensors it sends in late fusion (see ``late_messages.CandidateBoxes``).

    Returns:
        The batch to take the ground truth from and the outputs by agent, both for the post-processor.
    """
    if method.boxes:
        found = _single_forward(method, model)(batch["ego"])
        outputs = _as_heard(found, found.__getitem__, method, channel, reduce)
        return dict.fromkeys(found, batch["ego"]), outputs
    if method.family != "late":
        if getattr(model, "detects_by_agent", False):
            return _detect_by_agent(model, batch["ego"], channel, reduce)
        return batch, {"ego": model(batch["ego"])}
    if method.own_ground_truth:
        batch = {"ego": batch["ego"]}
    return batch, _as_heard(batch, lambda agent: model(batch[agent]), method, channel, reduce)


def _as_heard(
    agents: Iterable[str], own: Callable[[str], Outputs], method: FusionMethod, channel: Channel, reduce: Callable
) -> Outputs:
    """What the first agent finds, and the boxes of the others that reach it."""
    outputs: Outputs = {}
    for number, agent in enumerate(agents):
        if number == 0:
            outputs[agent] = own(agent)
        elif not method.alone and channel.takes_part(number):
            message = candidates_message(reduce(own(agent)))
            received = channel.transmit(message, sender=number, receiver=0)
            if received is not None:
                outputs[agent] = dict(received.tensors)
    return outputs


def _single_forward(method: FusionMethod, model: Any) -> Callable[[Mapping[str, Any]], Outputs]:
    if not hasattr(model, "single_forward"):
        raise ConfigError(f"--fusion_method {method.name}: this detector cannot tell what each agent finds by itself.")
    found: Callable[[Mapping[str, Any]], Outputs] = model.single_forward
    return found


def _detect_by_agent(model: nn.Module, ego: dict[str, Any], channel: Channel, reduce: Any) -> tuple[Batch, Outputs]:
    """Late fusion by a detector that sees all agents at once and gives outputs by modality, a row per agent.

    The batch that is returned repeats the ego's entry for the others, with the matrix of each; objects are one by id.
    """
    by_modality = model(ego)
    names, ids = list(ego["agent_modality_list"]), list(ego["cav_id_list"])
    seen, outputs, numbers = {}, {}, dict.fromkeys(by_modality, 0)
    for row, (name, agent) in enumerate(zip(names, ids, strict=False)):
        if name not in by_modality:
            continue
        number, numbers[name] = numbers[name], numbers[name] + 1
        own = {key: value[number : number + 1] for key, value in by_modality[name].items() if isinstance(value, Tensor)}
        message = candidates_message(reduce.of(name)(own))
        heard = message if row == 0 else None
        if row and channel.takes_part(row):
            heard = channel.transmit(message, sender=row, receiver=0)
        if heard is not None:
            key = "ego" if row == 0 else str(agent)
            seen[key] = {**ego, "transformation_matrix": ego["pairwise_t_matrix"][0, row, 0]}
            outputs[key] = dict(heard.tensors)
    return seen or {"ego": ego}, outputs


def _needs(method: FusionMethod) -> str:
    return {
        "late": "late, no and single run one agent at a time",
        "early": "early runs on the points of all agents merged",
        "intermediate": "intermediate merges the features of all agents",
    }[method.family]
