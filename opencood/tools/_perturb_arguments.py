"""Arguments that disturb what the agents sense and send, shared by training and inference tools."""

from __future__ import annotations

import argparse
from typing import Any

from opencood.tools._cli import number

# Argument -> (disturbance, its argument in the section perturb of a hypes file).
_PLACES = {
    "pos_std": ("pose_noise", "pos_std"),
    "rot_std": ("pose_noise", "rot_std"),
    "pose_noise": ("pose_noise", "distribution"),
    "box_align": ("box_alignment", "boxes"),
    "delay": ("delay", "milliseconds"),
    "delay_random": ("delay", "random"),
    "delay_pose_only": ("delay", "pose_only"),
    "async": ("asynchrony", "milliseconds"),
    "async_per": ("asynchrony", "per"),
    "async_unstamped": ("asynchrony", "stamped"),
    "drop_agents": ("drop_agents", "probability"),
    "drop_per": ("drop_agents", "per"),
    "visibility": ("fog", "visibility"),
    "snow_rate": ("snow", "rate"),
}
# What a disturbance cannot do without -> the argument that gives it.
_NEEDED = {
    ("delay", "milliseconds"): "--delay",
    ("drop_agents", "probability"): "--drop_agents",
}


def add_perturbations(parser: argparse.ArgumentParser, when: str) -> None:
    """Add the group; ``when`` (train, test, always) is where its disturbances apply unless the user says otherwise."""
    group = parser.add_argument_group(
        "disturbances", "each replaces the one of the same name in the configuration's section perturb"
    )
    group.add_argument(
        "--pos_std", "--pose_std", dest="pos_std", type=number(0), metavar="M", help="pose error: x and y, metres"
    )
    group.add_argument("--rot_std", type=number(0), metavar="DEG", help="pose error: yaw, degrees")
    group.add_argument("--pose_noise", choices=("gaussian", "laplace", "von_mises"), help="its distribution")
    group.add_argument("--box_align", metavar="FILE", help="correct poses by these boxes (pose_graph_pre_calc)")
    group.add_argument("--no_box_align", action="store_true", help="without the configuration's own pose correction")
    group.add_argument("--delay", type=number(0), metavar="MS", help="age of every message but the ego's own")
    group.add_argument("--delay_random", action="store_const", const=True, help="uniform from 0 to --delay")
    group.add_argument("--delay_pose_only", action="store_const", const=True, help="as published: only poses are old")
    group.add_argument("--async", type=number(0), metavar="MS", help="sensors sample up to so long before the ego's")
    group.add_argument("--async_per", choices=("agent", "frame"), help="a constant of each agent, or drawn per frame")
    group.add_argument(
        "--async_unstamped", action="store_const", const=False, help="the pose sent along is that of the ego's instant"
    )
    group.add_argument("--drop_agents", type=number(0, 1), metavar="P", help="probability that an agent is unheard")
    group.add_argument("--drop_per", choices=("frame", "run"), help="drawn per agent and frame, or per agent once")
    group.add_argument("--weather", choices=("fog", "snow"), help="LiDAR weather")
    group.add_argument("--visibility", type=number(0), metavar="M", help="of fog, metres (100)")
    group.add_argument("--snow_rate", type=number(0), metavar="MM/H", help="of snow, mm of water per hour (1)")
    group.add_argument("--perturb_when", choices=("train", "test", "always"), default=when, help=f"default: {when}")
    group.add_argument("--no_perturb", action="store_true", help="without the configuration's own section perturb")


def take_perturbations(parser: argparse.ArgumentParser, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Remove the group from parsed arguments; return its section ``perturb``, or None when nothing was asked for.

    With ``--no_perturb`` the section says so under ``_replace_``. Contradictions end the program like any other wrong
    argument.
    """
    weather, when = arguments.pop("weather"), arguments.pop("perturb_when")
    section: dict[str, Any] = {weather: {}} if weather else {}
    for argument, (name, key) in _PLACES.items():
        value = arguments.pop(argument)
        if value is None:
            continue
        if name in ("fog", "snow") and name != weather:
            parser.error(f"--{argument} goes with --weather {name}")
        section.setdefault(name, {})[key] = value
    for (name, key), option in _NEEDED.items():
        if name in section and key not in section[name]:
            parser.error(f"{option} is missing although the way it is drawn is given")
    for content in section.values():
        content["when"] = when
    if arguments.pop("no_box_align"):
        if "box_alignment" in section:
            parser.error("--box_align and --no_box_align contradict each other")
        section["box_alignment"] = False
    if arguments.pop("no_perturb"):
        section["_replace_"] = True
    return section or None
