"""What every command line shares: the import path, logging, and errors as one clear line instead of a trace.

A tool begins like this, so that ``python opencood/tools/X.py`` works from a clone that is not installed::

    if not __package__:
        import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
    from opencood.tools._cli import run
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
_DEVICE_LIST = re.compile(r"(-?\d+|GPU-[\w-]+|MIG-[\w/-]+)(,(-?\d+|GPU-[\w-]+|MIG-[\w/-]+))*")


def put_clone_first() -> None:
    """Let ``import opencood`` find this clone, and keep the tools folder from shadowing other modules.

    The folder goes to the end instead of away: spawned worker processes import the script, and with it ``_cli``, again.
    """
    tools = str(Path(__file__).resolve().parent)
    others = [entry for entry in sys.path if entry not in (tools, str(ROOT))]
    sys.path[:] = [str(ROOT), *others, tools]


if not __package__:
    put_clone_first()


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all others, instead of the usage of every option."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        self.exit(EXIT_USER_ERROR, f"error: {message}. See {self.prog} --help.\n")


@contextmanager
def only_warnings() -> Iterator[None]:
    """A block in which what merely goes on is not logged."""
    logger = logging.getLogger("opencood")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def at_least(bound: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number with a lower bound."""

    def whole(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < bound:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {bound}, found '{text}'")
        return int(text)

    return whole


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """The type of an argument that is a number within bounds."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and value < math.inf):
            bounds = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, found '{text}'")
        return value

    return number


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Run ``main(argv)`` as a command line and exit with its code.

    ``argv`` None means the process arguments. An ``OpencoodError`` becomes one line on stderr and exit code 2; Ctrl-C
    exits with 130. Any other exception is a bug and keeps its trace.

    Raises:
        SystemExit: with the exit code (a rank of a distributed run ends at once instead, with the same code).
    """
    from opencood.errors import OpencoodError

    set_up_logging()
    check_visible_devices()
    try:
        code = main(argv)
    except OpencoodError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    _leave(code or 0)


def _leave(code: int) -> None:
    """Exit; as a rank of a distributed run without tearing the interpreter down.

    Threads of the process group that ask for the interpreter while it ends abort the process ("terminate called without
    an active exception"), and the launcher then reports a finished run as failed.
    """
    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def set_up_logging() -> None:
    """Send log records and warnings to stderr, one line each; only rank 0 of a distributed run reports progress."""
    follower = os.environ.get("RANK", "0") not in ("", "0")
    logging.basicConfig(level=logging.WARNING if follower else logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("matplotlib", "numba", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.showwarning = _one_line_warning


def check_visible_devices() -> None:
    """Warn when CUDA_VISIBLE_DEVICES is not a device list (published command lines say ``x``): the run uses the CPU."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted and not _DEVICE_LIST.fullmatch(wanted.replace(" ", "")):
        advice = "Write device numbers such as 0 or 0,1, or unset it."
        logging.getLogger("opencood").warning(
            "CUDA_VISIBLE_DEVICES=%s is not a list of GPU numbers: running on the CPU. %s", wanted, advice
        )


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:
    logging.getLogger("opencood").warning("warning: %s", message)
