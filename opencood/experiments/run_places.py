"""Where a training writes: the folder it continues, a named one, or a new one below ``opencood/logs``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from opencood.config.loader import CONFIG_NAME, Hypes, config_of_run, load_yaml
from opencood.config.save import digest
from opencood.errors import StorageError
from opencood.training.checkpoints import LAST, read_last
from opencood.training.settings import settings_from

LOGS = Path("opencood/logs")


def choose_run_folder(hypes: Hypes, model_dir: str | Path | None, run_dir: Path | None) -> Path:
    """The run folder of a training.

    ``model_dir`` is continued. ``run_dir`` is continued when it holds an unfinished run of the same configuration, and
    cleared otherwise. Without both a new folder is made.

    Raises:
        ConfigError: ``model_dir`` holds no configuration.
        StorageError: the folder cannot be made.
    """
    if model_dir:
        return config_of_run(model_dir).parent
    if run_dir is None:
        return _new_folder(str(hypes.get("name", "run")))
    folder = _made(Path(run_dir))
    if not _is_unfinished(folder, hypes):
        _clear(folder)
    return folder


def _new_folder(name: str) -> Path:
    stamp = datetime.now().strftime("%Y_%m_%d_%H_%M_%S")
    for number in range(1, 100):
        folder = LOGS / (f"{name}_{stamp}" if number == 1 else f"{name}_{stamp}_{number}")
        if not folder.exists():
            return _made(folder)
    raise StorageError(f"{LOGS}: a hundred runs named '{name}' began in this second.")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror}). Choose another place.") from error
    return folder


def _is_unfinished(folder: Path, hypes: Hypes) -> bool:
    """Whether the folder holds a run of this very configuration that has not reached its last epoch."""
    state = read_last(folder)
    if state is None or not (folder / CONFIG_NAME).is_file():
        return False
    same = digest(load_yaml(None, model_dir=folder)) == digest(hypes)
    return same and state["progress"]["epoch"] < settings_from(hypes).epochs


def _clear(folder: Path) -> None:
    """Remove what an earlier run of ours left in a folder that is trained anew."""
    for pattern in (CONFIG_NAME, LAST, "net_epoch*.pth", "events.out.tfevents.*", "training.jsonl", "log.log"):
        for path in folder.glob(pattern):
            path.unlink()
