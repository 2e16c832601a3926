"""What a run tells while it goes: progress bar, the published line, TensorBoard curves and a JSONL log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opencood.errors import StorageError
from opencood.training.checkpoints import write_atomically
from opencood.training.curves import Curves

LOG, LINES = "training.jsonl", "log.log"
# term -> (field of the printed line, TensorBoard tag); of a detector the first three and the IoU are always printed
PUBLISHED = {
    "cls_loss": ("Conf Loss", "Confidence_loss"),
    "reg_loss": ("Loc Loss", "Regression_loss"),
    "dir_loss": ("Dir Loss", "Dir_loss"),
    "iou_loss": ("IoU Loss", "Iou_loss"),
    "depth_loss": ("Depth Loss", "Depth_loss"),
    "pyramid_loss": ("Pyramid Loss", "Pyramid_loss"),
    "kd_loss": ("Kd Loss", "Kd_loss"),
    "unc_loss": ("Unc Loss", "Unc_loss"),
}
ALWAYS = ("cls_loss", "reg_loss", "dir_loss", "iou_loss")


def published_line(
    epoch: int, batch: int, batches: int, loss: float, terms: Mapping[str, float], suffix: str = ""
) -> str:
    """The line that published trainers print per iteration; ``batch`` counts from 1."""
    detects = any(name in terms for name in ALWAYS)
    fields = {PUBLISHED[name][0]: terms.get(name, 0.0) for name in ALWAYS} if detects else {}
    others = {_field(name): value for name, value in terms.items() if name not in ALWAYS and name != "total_loss"}
    values = "".join(f" || {name}: {value:.4f}" for name, value in (fields | others).items())
    return f"[epoch {epoch}][{batch}/{batches}]{suffix} || Loss: {loss:.4f}{values}"


class Journal:
    """Writes what happens; on ranks that do not write files it does nothing.

    Args:
        folder: the run folder.
        active: whether this process is the one that writes.
        epochs: number of epochs of the run, for the progress bar.
        print_every: see ``Settings.print_every``.
    """

    def __init__(self, folder: Path, active: bool, epochs: int, print_every: int | None = None):
        self.folder, self.active, self.epochs = folder, active, epochs
        self.print_every = print_every if print_every is not None else (0 if sys.stdout.isatty() else 1)
        self.curves: Curves | None = None
        self.bar: tqdm | None = None

    def open(self, epoch: int, step: int, batches: int) -> None:
        """Start or continue a log; entries from (epoch, step) on are dropped, since these steps are done again."""
        if not self.active:
            return
        self._forget_from(epoch, step)
        with _storing(self.folder):
            self.curves = Curves(self.folder, purge_step=epoch * batches + step if epoch or step else None)

    def open_epoch(self, epoch: int, batches: int, done: int, samples_per_batch: int, rates: list[float]) -> None:
        """Begin an epoch's progress bar, ``done`` of its batches being behind us."""
        if not self.active:
            return
        self.say(" ".join(f"learning rate {rate:.6g}" for rate in rates))
        self.bar = tqdm(
            total=batches * samples_per_batch,
            initial=done * samples_per_batch,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit=" samples",
            dynamic_ncols=True,
            mininterval=0.5,
        )

    def step(self, epoch: int, index: int, batches: int, samples: int, report: Mapping[str, Any], rate: float) -> None:
        """Record one step; ``report`` maps each criterion call's suffix to (loss, terms)."""
        if not self.active or self.bar is None:
            return
        self.bar.update(samples)
        entry: dict[str, Any] = {"event": "step", "epoch": epoch, "step": index, "rate": rate}
        loud = self.print_every > 0 and (index + 1) % self.print_every == 0
        for suffix, (loss, terms) in report.items():
            entry |= {f"loss{suffix}": loss} | {f"{name}{suffix}": value for name, value in terms.items()}
            self.say(published_line(epoch, index + 1, batches, loss, terms, suffix), loud)
            self._draw(terms, suffix, epoch * batches + index)
        elapsed = self.bar.format_dict["elapsed"] or 1e-9
        entry["samples_per_second"] = round((self.bar.n - self.bar.initial) / elapsed, 2)
        self._log(entry)
        loss, terms = report[""]
        shown = {name.removesuffix("_loss"): f"{value:.3f}" for name, value in terms.items() if name != "total_loss"}
        self.bar.set_postfix({"loss": f"{loss:.3f}"} | shown, refresh=False)

    def skipped(self, samples: int) -> None:
        """Record a batch in which no rank has an object."""
        if self.bar is not None:
            self.bar.update(samples)

    def close_epoch(self, epoch: int, **facts: Any) -> None:
        """End the progress bar and record facts about the epoch."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.active:
            self._log({"event": "epoch", "epoch": epoch, **facts})

    def validated(
        self, epoch: int, loss: float, best: bool, by_backend: Mapping[str, float], weights: Mapping[str, float]
    ) -> None:
        """Record a validation; where there are several backends also their losses, and how often each is drawn now."""
        if not self.active:
            return
        self.say(f"At epoch {epoch}, the validation loss is {loss:f}")
        for name, own in by_backend.items():
            drawn = f", weight {weights[name]:g}" if weights else ""
            self.say(f"  backend {name}: {own:f}{drawn}")
        told = {key: dict(value) for key, value in (("backends", by_backend), ("weights", weights)) if value}
        self._log({"event": "validation", "epoch": epoch, "loss": loss, "best": best, **told})
        if self.curves is not None:
            with _storing(self.folder):
                self.curves.add("Validate_Loss", loss, epoch)
                for name, own in by_backend.items():
                    self.curves.add(f"Validate_Loss_{name}", own, epoch)

    def say(self, line: str, aloud: bool = True) -> None:
        """Add a line to ``log.log``, and show it without breaking the progress bar."""
        if not self.active:
            return
        self._append(LINES, line)
        if aloud:
            tqdm.write(line)

    def close(self) -> None:
        """Flush and close."""
        if self.bar is not None:
            self.bar.close()
        if self.curves is not None:
            with _storing(self.folder):
                self.curves.close()

    def _draw(self, terms: Mapping[str, float], suffix: str, at: int) -> None:
        if self.curves is None:
            return
        with _storing(self.folder):
            for name, value in terms.items():
                if name != "total_loss":
                    self.curves.add(_tag(name) + suffix, value, at)

    def _log(self, entry: dict[str, Any]) -> None:
        stamped = {**entry, "time": round(time.time(), 3)}
        self._append(LOG, json.dumps(stamped))

    def _append(self, name: str, line: str) -> None:
        path = self.folder / name
        with _storing(path), open(path, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def _forget_from(self, epoch: int, step: int) -> None:
        path = self.folder / LOG
        if not path.is_file():
            return
        kept = [line for line in path.read_text("utf-8").splitlines() if _is_before(line, epoch, step)]
        write_atomically(path, "".join(line + "\n" for line in kept).encode())


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Turn the errors of the operating system into one that the user reads."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: the log could not be written ({error.strerror or error}). Free some space, then go on with "
            "--model_dir."
        ) from error


def _is_before(line: str, epoch: int, step: int) -> bool:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False  # the line that a killed process left half-written
    return (entry["epoch"], entry.get("step", sys.maxsize)) < (epoch, step)


def _field(term: str) -> str:
    return PUBLISHED[term][0] if term in PUBLISHED else f"{term.removesuffix('_loss')} Loss"


def _tag(term: str) -> str:
    return PUBLISHED[term][1] if term in PUBLISHED else term[:1].upper() + term[1:]
