"""Open a run folder for testing: its configuration with what the command line overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, parity_of, quirk
from opencood.config.loader import Hypes, config_of_run, load_yaml
from opencood.config.overrides import configured_range, with_range
from opencood.config.perturb import perturbed
from opencood.config.splits import split_paths
from opencood.errors import ConfigError, DataError

Range = tuple[float, ...]
CONFIGURED = "configuration"
# Files of these repositories have no test_dir: what they call validate_dir is the test split.
TEST_ON_VALIDATION = frozenset({"opencood", "coopre", "v2xreal", "v2v4real"})


@dataclass(frozen=True)
class RangeChoice:
    """The range of an evaluation and where it comes from; ranges are ``[x0, y0, z0, x1, y1, z1]`` in metres."""

    used: Range
    configured: Range
    source: str
    heterogeneous: bool
    remark: str = ""

    @property
    def used_xy(self) -> tuple[float, float]:
        """Upper limits in x and y."""
        return self.used[3], self.used[4]

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        return {"used": list(self.used), "configured": list(self.configured), "source": self.source}

    def notes(self) -> list[str]:
        """What the reader must know, if anything."""
        if self.remark:
            return [self.remark]
        if self.source == CONFIGURED:
            return []
        return [
            f"evaluated on range {list(self.used)} ({self.source}); the configuration says {list(self.configured)}."
        ]


def open_run_folder(
    model_dir: str | Path,
    parity: str | None = None,
    range_xy: tuple[float, float] | None = None,
    noise: Mapping[str, Any] | None = None,
    seed: int | None = None,
    perturb: Mapping[str, Any] | None = None,
    edit: Callable[[Hypes], Mapping[str, Any]] | None = None,
    range_quirk: str = "inference_range",
    test_dir: str | None = None,
) -> tuple[Hypes, RangeChoice]:
    """Load ``<model_dir>/config.yaml`` for testing: ``validate_dir`` becomes ``test_dir``, then the overrides.

    ``test_dir`` replaces the configured one; ``edit`` returns keys that replace those of the configuration;
    ``range_quirk`` names the tool's default range.

    Raises:
        ConfigError: no such folder, no configuration in it, or no ``test_dir``.
        DataError: there is no such ``test_dir``.
    """
    hypes = load_yaml(None, model_dir=model_dir)
    if test_dir is not None:
        hypes = hypes.replaced({**hypes, "test_dir": test_dir})
    changes: dict[str, Any] = {"validate_dir": _test_split(hypes, config_of_run(model_dir))}
    if hypes.get("box_align"):  # as published: the boxes of the split that is tested
        changes["box_align"] = {**hypes["box_align"], "val_result": hypes["box_align"].get("test_result")}
    if parity is not None:
        changes["parity"] = parity
    if noise is not None:
        # Noise of size zero would still draw, and so shuffle the points otherwise than a run without noise.
        disturbs = (
            any(noise[key] for key in noise if key != "laplace") or parity_of({**hypes, **changes}) == "published"
        )
        changes["noise_setting"] = {"add_noise": disturbs, "add_pose_noise": disturbs, "args": dict(noise)}
    changes |= perturbed(hypes, perturb)
    if seed is not None:
        changes["seed"] = seed
    changed = hypes.replaced({**hypes, **changes})
    if edit is not None:
        changed = changed.replaced({**changed, **edit(changed)})
    return choose_range(changed, range_xy, range_quirk)


def choose_range(
    hypes: Hypes, range_xy: tuple[float, float] | None, range_quirk: str = "inference_range"
) -> tuple[Hypes, RangeChoice]:
    """Apply ``--range`` or the flavor's published default, and say what was done."""
    configured = tuple(configured_range(hypes))
    heterogeneous = "heter" in hypes
    published = parity_of(hypes) == "published"
    wanted, source = range_xy, "--range"
    if range_xy is None and heterogeneous:
        wanted, source = quirk(hypes, range_quirk), f"published default of {flavor_of(hypes)}"
    if range_xy is not None and not heterogeneous and published:
        remark = "--range acts only on heterogeneous files (those with a section heter), as published; it was ignored."
        return hypes, RangeChoice(configured, configured, CONFIGURED, heterogeneous, remark)
    if wanted is None:
        return hypes, RangeChoice(configured, configured, CONFIGURED, heterogeneous)
    changed = with_range(hypes, *wanted)
    return changed, RangeChoice(tuple(configured_range(changed)), configured, source, heterogeneous)


def _test_split(hypes: Mapping[str, Any], file: Path) -> Any:
    test_dir = hypes.get("test_dir")
    if not test_dir and flavor_of(hypes) in TEST_ON_VALIDATION:
        return hypes.get("validate_dir")
    if not test_dir:
        raise ConfigError(f"{file}: missing key 'test_dir', the split to evaluate on.")
    by_folder_name = ("OPV2V", "v2xsim")
    for path in split_paths(test_dir):
        if any(name in path for name in by_folder_name) and "test" not in path:
            raise ConfigError(f"test_dir: '{path}' does not name a test split. Point test_dir at the folder 'test'.")
        if not Path(path).exists():
            raise DataError(
                f"{file}: test_dir: no folder '{path}' (working directory {Path.cwd()}); give the folder of the split."
            )
    return test_dir
