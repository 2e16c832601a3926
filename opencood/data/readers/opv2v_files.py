"""Where the files of a frame lie in the OPV2V family of data sets (spec data.md, sections 2.1 and 2.2)."""

from __future__ import annotations

from pathlib import Path

from opencood.data import files
from opencood.errors import ConfigError

_TREE, _LOWER_RESOLUTION_TREE = "OPV2V", "OPV2V_Hetero"
_PLUS_TREE = "OPV2VH_MoreAgents"
_SPLITS = ("train", "validate", "test")


def channel_file(path: Path, channels: int | None) -> Path:
    """Return the file of a sweep with fewer channels (16 or 32), else the path itself (spec data.md, section 2.2)."""
    if channels not in (16, 32):
        return path
    return lower_resolution_file(path.with_name(f"{path.stem}_{channels}{path.suffix}"))


def channel_file_plus(path: Path, channels: int | None) -> Path:
    """Return the file of a sweep of OPV2V-H+, whose sweeps of 64 and 32 lines lie in trees of their own.

    Raises:
        ConfigError: another number of channels is wanted.
    """
    if channels not in (None, 32):
        raise ConfigError(
            f"heter.lidar_channels_dict: OPV2V-H+ has sweeps of 64 (no entry) and 32 lines, not {channels}."
        )
    parts = list(path.parts)
    for position, name in enumerate(parts[:-1]):
        if name == _PLUS_TREE:
            parts[position] = f"{_PLUS_TREE}_LiDAR"
        elif name == "test":
            parts[position] = f"test_{channels or 64}"
    return Path(*parts)


def lower_resolution_file(path: Path) -> Path:
    """Return where an additional file of OPV2V-H lies: in its own tree, or beside the frame if it is only there."""
    twin = lower_resolution_tree(path)
    return path if twin != path and not files.exists(twin) and files.exists(path) else twin


def lower_resolution_tree(path: Path) -> Path:
    """Return the twin of a path in the OPV2V-H tree; a path outside a folder OPV2V keeps its folder."""
    folders = list(path.parts[:-1])
    named = [position for position, name in enumerate(folders) if name == _TREE]
    similar = [position for position, name in enumerate(folders) if _TREE in name]
    if not similar:
        return path
    place = (named or similar)[-1]
    folders[place] = folders[place].replace(_TREE, _LOWER_RESOLUTION_TREE)
    return Path(*folders, path.name)


def additional_files(path: Path) -> tuple[Path, ...]:
    """Return where an additional file may lie: beside the frame, or in the tree ``additional/<split>``."""
    parts = list(path.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] in _SPLITS:
            return path, Path(*parts[:position], "additional", *parts[position:])
    return (path,)


def beside(stem: Path, ending: str) -> Path:
    """Return the file of a frame with an ending such as ``_camera0.png``."""
    return stem.with_name(stem.name + ending)
