"""Evaluate a trained detector: run folder in, report out (tools.md section 3, evaluation.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from opencood.batch import to_device
from opencood.communication import Channel
from opencood.config.flavor import flavor_of, quirk
from opencood.config.loader import Hypes, config_of_run
from opencood.errors import ConfigError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.files import write_array
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, Report, evaluate
from opencood.evaluation.subsets import Bands
from opencood.experiments.devices import synchronize
from opencood.experiments.evaluate import PUBLISHED_BANDS, parse_bands
from opencood.experiments.fusion_methods import Batch, detect
from opencood.experiments.participants import clouds_in_ego, participants, send_points
from opencood.experiments.pictures import scene_of
from opencood.experiments.protocol import describe_protocol
from opencood.experiments.results import REPORTS_BANDS, write_results
from opencood.experiments.session import InferenceOptions, Session, open_session
from opencood.visualization.bev import draw_bev

__all__ = ["InferenceOptions", "Report", "Session", "collect", "open_session", "reported_variant", "run_inference"]


def run_inference(options: InferenceOptions) -> Report:
    """Evaluate a run folder and write its result files.

    Raises:
        ConfigError: an option contradicts the configuration.
        CheckpointError: the folder holds no checkpoint, or one of another model.
        DataError: the data folder is missing or broken.
    """
    session = open_session(options)
    detections, speed = collect(session)
    report = evaluate(
        detections,
        variant=reported_variant(session.hypes),
        frames_per_second=speed,
        notes=session.notes,
        bands=_bands(options, session.hypes, detections),
    )
    files = []
    if options.save_detections is not None:
        files.append(detections.save(options.save_detections))
    if options.results:
        files += write_results(report, session.folder, session.info)
    return replace(report, files=tuple(map(str, files)))


def collect(session: Session) -> tuple[DetectionSet, float | None]:
    """Run the detector over the split; returns the detections and the speed in frames/s (forward, decoding, NMS)."""
    channel = session.channel()
    metered = _attach(session, channel)
    frames, seconds, skipped = [], [], 0
    for index, batch in _batches(session):
        if batch is None:
            skipped += 1
            continue
        channel.start_frame(index)
        started = perf_counter()
        boxes, scores, truth = _detect_frame(session, batch, channel)
        seconds.append(perf_counter() - started)
        if session.method.family == "early":
            send_points(participants(session.dataset, batch), channel)
        sent = channel.meter.bytes_of_frame() if metered else None
        frame = FrameDetections.of(boxes, scores, truth, message_bytes=sent, name=str(batch["ego"]["sample_idx"]))
        frames.append(frame)
        _save_extras(session, index, batch, frame)
    session.notes += _channel_notes(session, channel)
    broken = len(session.dataset.frames_left_out)
    if broken:
        session.notes.append(f"{broken} broken frame(s) were left out (on_bad_frame: skip).")
    if skipped > broken:
        session.notes.append(f"{skipped - broken} frames had no valid agent and were skipped.")
    detections = DetectionSet(tuple(frames), _protocol(session, len(frames)))
    return detections, _speed(seconds)


def _channel_notes(session: Session, channel: Channel) -> list[str]:
    """What the channel did to the messages, where it was told to do something."""
    changes, meter = session.levels.changes(), channel.meter
    if not changes:
        return []
    if session.method.family == "intermediate" and not hasattr(session.model, "channel"):
        return ["the detector has no channel: the section channel had no effect."]
    told = ", ".join(f"{key} {value}" for key, value in changes.items())
    return [
        f"channel with {told}: {meter.messages} messages sent, {meter.lost} lost, {meter.withheld} too long to send."
    ]


def _bands(options: InferenceOptions, hypes: Hypes, detections: DetectionSet) -> Bands | None:
    """The bands asked for; else the published ones where published figures have them: V2X-Real's, V2V4Real's."""
    usual = detections.class_names or flavor_of(hypes) in REPORTS_BANDS
    return parse_bands(options.bands or (PUBLISHED_BANDS if usual else None))


def _speed(seconds: list[float]) -> float | None:
    """Frames per second by the median frame, so that neither the warm-up nor a busy machine counts."""
    return 1 / median(seconds) if seconds else None


def reported_variant(hypes: Hypes) -> str:
    """The AP variant that the configuration's flavor and parity report."""
    return GLOBAL_SORT if quirk(hypes, "ap_global_sort") else FRAME_ORDER


@torch.inference_mode()
def _detect_frame(session: Session, batch: Batch, channel: Channel) -> tuple[Any, Any, Any]:
    moved = to_device(batch, session.device)
    seen, outputs = detect(session.method, session.model, moved, channel, session.reduce)
    found = session.dataset.post_process(seen, outputs)
    synchronize(session.device)
    return found


def _batches(session: Session) -> Iterator[tuple[int, Batch | None]]:
    options, dataset = session.options, session.dataset
    total = len(dataset) if options.limit is None else min(options.limit, len(dataset))
    loader = DataLoader(
        Subset(dataset, range(total)),
        batch_size=1,
        shuffle=False,
        num_workers=min(options.workers, total, os.cpu_count() or 1),
        collate_fn=dataset.collate_batch_test,
    )
    label = f"{session.method.name} fusion"
    return enumerate(tqdm(loader, desc=label, unit="frame", disable=None if options.progress else True))


def _attach(session: Session, channel: Channel) -> bool:
    """Give the detector its channel; returns whether what agents send can be metered.

    Raises:
        ConfigError: agents are to be left out of a detector that has no channel to leave them out of.
    """
    if session.method.alone:
        return False
    if session.method.boxes or session.method.family in ("late", "early"):
        return True
    if hasattr(session.model, "channel"):
        detector: Any = session.model
        detector.channel = channel
        return True
    if session.agents is not None:
        name = session.hypes["model"]["core_method"]
        raise ConfigError(f"--agents: the detector '{name}' has no channel, so its agents cannot be left out.")
    session.notes.append("the detector has no channel: communication was not metered.")
    return False


def _protocol(session: Session, frames: int) -> dict[str, Any]:
    options = session.options
    return describe_protocol(
        session.hypes,
        config_of_run(options.model_dir),
        session.checkpoint,
        epoch=session.epoch,
        fusion_method=session.method.name,
        channel=session.levels.changes() or None,
        agents="all" if session.agents is None else session.agents,
        range=session.range_choice.describe(),
        frames=frames,
        limit=options.limit,
        seed=options.seed,
        device=str(session.device),
        note=options.note,
        classes=getattr(session.dataset.post_processor, "class_names", None),
    )


def _save_extras(session: Session, index: int, batch: Batch, frame: FrameDetections) -> None:
    """The picture and the arrays of a frame, where they are wanted."""
    options, folder = session.options, session.folder
    wants_picture = options.save_vis_interval and index % options.save_vis_interval == 0
    if not wants_picture and not options.save_npy:
        return
    agents = participants(session.dataset, batch)
    heard = 1 if session.method.alone else session.agents
    if wants_picture:
        scene = scene_of(agents, frame, session.hypes, heard, not options.no_score, subtitle=f"frame {index:05d}")
        draw_bev(scene, folder / f"vis_{session.info}" / f"bev_{index:05d}.png")
    if options.save_npy:
        contents = {"pcd": clouds_in_ego(agents[:heard])[0], "pred": frame.boxes, "gt": frame.ground_truth}
        for name, array in contents.items():
            write_array(folder / "npy" / f"{index:04d}_{name}.npy", array)
