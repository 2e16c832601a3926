"""From the figures of a split to findings: what is there, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from opencood.experiments.dataset_check import look as kinds
from opencood.experiments.dataset_check.advice import source_of
from opencood.experiments.dataset_check.look import BROKEN, MISSING, OK
from opencood.experiments.dataset_check.motion import Motion
from opencood.experiments.dataset_check.summary import EXAMPLES, Summary, spread
from opencood.experiments.finding import NOTE, PROBLEM, Finding
from opencood.experiments.finding import OK as FINE

# What training may ask for besides clouds, and which of its methods do.
OPTIONAL = {
    kinds.CAMERA: "cameras in input_source",
    kinds.DEPTH: "depth in input_source",
    kinds.VISIBILITY: "label_type: camera",
    kinds.LINES[32]: "heter.lidar_channels_dict with 32",
    kinds.LINES[16]: "heter.lidar_channels_dict with 16",
    kinds.OWN_LABELS: "late and heterogeneous fusion",
    kinds.CAMERA_LABELS: "label_type: camera",
}
_LISTS = (kinds.OWN_LABELS, kinds.CAMERA_LABELS)  # counted by frames; only some methods read them
_TOLERATED = 0.01  # share of odd boxes or jumps that is told but stops nobody
_FEWEST_BOXES, _LEAST_HIT = 20, 0.2  # below this share of nearby boxes with points, frames of reference are wrong
_MIRROR_GAIN = 1.5
_COMMON_RANGE = 70.0  # metres; comm_range of most published files


def inventory(summary: Summary, format_name: str) -> Iterator[Finding]:
    """Scenarios, agents, classes."""
    roadside = sum(summary.names.values())
    low, high = min(summary.agents), max(summary.agents)
    agents = f"{low}" if low == high else f"{low} to {high}"
    found = f"{_count(len(summary.scenarios), 'scenario')}, {_count(summary.frames, 'frame')}, {agents} agents a frame"
    yield Finding(FINE, "content", found + (f", {roadside} of {len(summary.names)} roadside" if roadside else ""))
    classes = ", ".join(f"{name} {count}" for name, count in summary.named_classes(format_name).items())
    if not classes:
        fix = "is the label folder there? Without objects only training without labels can start"
        yield Finding(PROBLEM, "objects", "no agent lists any object", fix)
    else:
        looks = sum(number * frames for number, frames in summary.agents.items())
        yield Finding(FINE, "objects", f"{classes}; {summary.objects / looks:.1f} for an agent and frame")
    if summary.apart:
        within = float(np.mean(np.array(summary.apart) <= _COMMON_RANGE))
        status, fix = (FINE, "") if within else (NOTE, "raise comm_range, or nobody collaborates with the first agent")
        distances = spread(summary.apart)
        found = f"{distances['smallest']:.0f} to {distances['largest']:.0f} m from the first one, {within:.0%} within"
        yield Finding(status, "other agents", f"{found} {_COMMON_RANGE:.0f} m", fix)


def files(summary: Summary, format_name: str, frames: int, needed: Collection[str]) -> Iterator[Finding]:
    """What is there, missing or broken of each kind of data."""
    yield _of_kind(summary, format_name, kinds.METADATA, True, f"of {frames} frames") or Finding(
        FINE, kinds.METADATA, f"{_count(frames, 'frame')} readable"
    )
    sweeps = spread(summary.points)
    read = (
        f"{len(summary.points)} sweeps read: {sweeps['smallest']:.0f} / {sweeps['median']:.0f} / "
        f"{sweeps['largest']:.0f} points (smallest, median, largest), up to {summary.reach:.0f} m"
        if sweeps
        else "no sweep read"
    )
    yield _of_kind(summary, format_name, kinds.LIDAR, True) or Finding(FINE, kinds.LIDAR, read)
    for kind, used_by in OPTIONAL.items():
        present = summary.states[kind, OK]
        trouble = _of_kind(summary, format_name, kind, kind in needed, used_by=used_by)
        if trouble is not None:
            yield trouble
        elif present:
            sizes = ", ".join(f"{width} x {height}" for width, height in sorted(summary.picture_sizes))
            yield Finding(
                FINE, kind, _count(present, _unit(kind)) + (f", {sizes}" if kind == kinds.CAMERA and sizes else "")
            )
        elif kind in needed:
            yield Finding(PROBLEM, kind, "this data set has none", source_of(format_name, kind))


def _of_kind(
    summary: Summary, format_name: str, kind: str, needed: bool, total: str = "", used_by: str = ""
) -> Finding | None:
    missing, broken, present = (summary.states[kind, state] for state in (MISSING, BROKEN, OK))
    if not missing and not broken:
        return None
    of_all = total or f"of {missing + broken + present} {_unit(kind)}s"
    found = " and ".join(f"{count} {state}" for count, state in ((missing, MISSING), (broken, BROKEN)) if count)
    is_list = kind in _LISTS
    found = found.replace(BROKEN, f"{MISSING} or {BROKEN}") if is_list else found
    source = source_of(format_name, kind)
    examples = [*summary.examples.get((kind, BROKEN), []), *summary.examples.get((kind, MISSING), [])][:EXAMPLES]
    if not needed and not present:
        first = f"\n{'':>24}{examples[0].message}" if broken else ""
        return Finding(NOTE, kind, f"none ({used_by} cannot be used){first}", source)
    lines = "".join(f"\n{'':>24}{example.message or example.where}" for example in examples)
    without = f"; needed for {used_by}" if used_by else ""
    return Finding(
        PROBLEM if needed or (broken and not is_list) else NOTE, kind, f"{found} {of_all}{without}{lines}", source
    )


def movement(motion: Motion, lacking: dict[str, list[tuple[str, int]]]) -> Iterator[Finding]:
    """Frame rate, jumps, stamps that some agents lack."""
    if motion.steps:
        rate = f"{motion.hertz:.1f} Hz by the speed and the way of agents" if motion.hertz else "taken as 10 Hz"
        gaps = f"; {motion.gaps} of {motion.steps} steps are longer" if motion.gaps else ""
        fix = "frames are missing there: delays in frames mean more time than they say" if gaps else ""
        step = "no numbers" if motion.step is None else f"{motion.step} apart"
        yield Finding(NOTE if gaps else FINE, "frame rate", f"stamps {step}, {rate}{gaps}", fix)
        share = len(motion.jumps) / motion.steps
        if motion.jumps:
            listed = "".join(f"\n{'':>24}{jump}" for jump in motion.jumps[:EXAMPLES])
            found = f"{len(motion.jumps)} of {motion.steps} steps are jumps{listed}"
            fix = "look at these metadata files; swapped or damaged poses put all labels of a frame in wrong places"
            yield Finding(PROBLEM if share > _TOLERATED else NOTE, "poses", found, fix)
        else:
            yield Finding(FINE, "poses", f"no jump in {motion.steps} steps")
    if lacking:
        scenario, agents = next(iter(lacking.items()))
        named = ", ".join(f"agent {agent} lacks {count}" for agent, count in agents)
        found = f"agents of {_count(len(lacking), 'scenario')} have different stamps ({scenario}: {named})"
        fix = "complete the folders, or remove these stamps from all agents of the scenario"
        yield Finding(PROBLEM, "stamps", found, fix)


def boxes(summary: Summary) -> Iterator[Finding]:
    """Sizes and places of boxes, and whether they lie where the points are."""
    for count, subject, what in (
        (summary.odd_sizes, "box sizes", "shorter than 0.1 m or longer than 30 m on a side"),
        (
            summary.out_of_range,
            "box places",
            "farther than 200 m from the agent that lists them, or 50 m above or below",
        ),
    ):
        if count:
            status = PROBLEM if count > _TOLERATED * summary.objects else NOTE
            fix = "are half sizes, degrees and metres where they belong, and are poses and boxes in one frame?"
            yield Finding(status, subject, f"{count} of {summary.objects} boxes {what}", fix)
    if not summary.near:
        return
    share, mirrored = summary.hit / summary.near, summary.hit_mirrored / summary.near
    found = f"{share:.0%} of {summary.near} boxes within 30 m hold points"
    if summary.near >= _FEWEST_BOXES and share < _LEAST_HIT:
        fix = "boxes and clouds are in different frames of reference: check calibration, pose order and units"
        if mirrored > max(_LEAST_HIT, _MIRROR_GAIN * share):
            fix = (
                f"with y mirrored it would be {mirrored:.0%}: one of clouds and labels is left-handed, one right-handed"
            )
        yield Finding(PROBLEM, "points in boxes", found, fix)
    else:
        yield Finding(FINE, "points in boxes", found)


def stray_folders(names: Sequence[str]) -> Iterator[Finding]:
    """Folders that look like scenarios and hold no frame."""
    if names:
        found = f"{_count(len(names), 'folder')} without a frame: {', '.join(names[:EXAMPLES])}"
        yield Finding(NOTE, "scenarios", found, "expected <scenario>/<agent number>/<stamp>.yaml; unpack them again")


def _unit(kind: str) -> str:
    return "frame" if kind in _LISTS else "file"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
