"""What a sweep varies: factors, their values as a command line writes them, and what they mean for an evaluation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from opencood.communication.precision import PRECISIONS
from opencood.errors import ConfigError
from opencood.experiments.session import InferenceOptions

Value = float | int | str
Condition = Mapping[str, Value]  # factor -> value; what is not named is as it is without disturbance

FRAME_MS = 100
MOST_VALUES = 1000


@dataclass(frozen=True)
class Factor:
    """One thing that can be varied.

    Attributes:
        label: what an axis says.
        read: from a word of the command line to a value; raises ValueError.
        neutral: the value that changes nothing.
        section: the part of ``InferenceOptions`` it changes (``perturb``, ``channel``), or empty for ``agents``.
        content: from a value to what is put there.
    """

    label: str
    read: Callable[[str], Value]
    neutral: Value | None
    section: str
    content: Callable[[Any], dict[str, Any]]


def _number(low: float = 0.0, high: float = math.inf) -> Callable[[str], float]:
    def read(word: str) -> float:
        value = float(word)
        if not low <= value <= high or math.isinf(value):
            raise ValueError(word)
        return value

    return read


def _count(word: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", word):
        raise ValueError(word)
    return int(word)


def _precision(word: str) -> str:
    if word not in PRECISIONS:
        raise ValueError(word)
    return word


def _weather(word: str) -> str:
    if not re.fullmatch(r"clear|(fog|snow)(:\d+(\.\d+)?)?", word):
        raise ValueError(word)
    return word


def _weather_section(value: str) -> dict[str, Any]:
    name, _, amount = value.partition(":")
    key = {"fog": "visibility", "snow": "rate"}[name]
    return {name: {"when": "test", **({key: float(amount)} if amount else {})}}


def _disturbance(name: str, content: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: {**content(value), "when": "test"}}


FACTORS: Mapping[str, Factor] = {
    "pose_std": Factor(
        "pose error (m and degrees)", _number(), 0.0, "perturb",
        _disturbance("pose_noise", lambda value: {"pos_std": value, "rot_std": value}),
    ),
    "delay": Factor(
        "delay (frames of 0.1 s)", _number(), 0.0, "perturb",
        _disturbance("delay", lambda value: {"milliseconds": value * FRAME_MS}),
    ),
    "drop": Factor("share of messages lost", _number(0, 1), 0.0, "channel", lambda value: {"drop": value}),
    "bit_error": Factor("bit error rate", _number(0, 0.5), 0.0, "channel", lambda value: {"bit_error": value}),
    "precision": Factor("values on the wire", _precision, "float32", "channel", lambda value: {"precision": value}),
    "budget": Factor("kilobytes a message may have", _number(1e-9), None, "channel", lambda value: {"budget": value}),
    "agents": Factor("agents", _count, None, "", lambda value: {"agents": value}),
    "weather": Factor("weather", _weather, "clear", "perturb", _weather_section),
}  # fmt: skip
# What changes how many bytes travel, and nothing else.
SIZES = ("precision", "budget")


def parse_values(name: str, text: str) -> list[Value]:
    """Values of a factor: ``0:0.6:0.2`` (both ends), ``0,1,3``, ``1-4`` (whole numbers), or words.

    Raises:
        ConfigError: they cannot be read.
    """
    factor = FACTORS[name]
    try:
        values = [factor.read(word) for word in _words(text)]
    except ValueError as error:
        raise ConfigError(
            f"--{name}: '{text}' cannot be read ({error}); give values such as {_example(name)}."
        ) from error
    if len(set(values)) != len(values):
        raise ConfigError(f"--{name}: '{text}' names a value twice.")
    return values


def conditions(values: Mapping[str, Sequence[Value]], grid: bool) -> list[dict[str, Value]]:
    """What is evaluated: the undisturbed case, then one factor at a time; with ``grid`` every combination."""
    found: list[dict[str, Value]] = [{}] if not grid else []
    combinations = (
        [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        if grid
        else [{name: value} for name, listed in values.items() for value in listed]
    )
    for combination in combinations:
        changed = {name: value for name, value in combination.items() if value != FACTORS[name].neutral}
        if changed not in found:
            found.append(changed)
    return found


def name_of(condition: Condition) -> str:
    """Part of file names: ``pose_std_0.2``, ``drop_0.1+delay_1``, or ``undisturbed``."""
    parts = [f"{name}_{shown(value)}".replace(":", "_") for name, value in condition.items()]
    return "+".join(parts) or "undisturbed"


def shown(value: Value) -> str:
    """A value as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def apply(options: InferenceOptions, condition: Condition) -> InferenceOptions:
    """The options of an evaluation under a condition; what they disturb already stays."""
    for name, value in condition.items():
        factor = FACTORS[name]
        content = factor.content(value)
        if factor.section:
            content = {factor.section: {**(getattr(options, factor.section) or {}), **content}}
        options = replace(options, **content)
    return options


def _words(text: str) -> list[str]:
    if match := re.fullmatch(r"([^:,]+):([^:,]+):([^:,]+)", text):
        start, stop, step = map(float, match.groups())
        count = round((stop - start) / step) if step > 0 else -1
        if not 0 <= count < MOST_VALUES:
            raise ValueError(f"from {start:g} to {stop:g} in steps of {step:g}")
        return [f"{start + step * index:.10g}" for index in range(count + 1)]
    if match := re.fullmatch(r"(\d+)-(\d+)", text):
        low, high = map(int, match.groups())
        if not low <= high < low + MOST_VALUES:
            raise ValueError(f"from {low} to {high}")
        return [str(number) for number in range(low, high + 1)]
    return [word.strip() for word in text.split(",")]


def _example(name: str) -> str:
    examples = {"agents": "1-4", "weather": "clear,fog,snow", "precision": "float32,int16,int8", "budget": "5,20,80"}
    return examples.get(name, "0,0.1,0.2 or 0:0.6:0.2")
