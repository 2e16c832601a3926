"""Every published file of OpenCOOD, CoAlign, V2V4Real and V2X-Real that its reference builds, with the same entries."""

import json
import warnings

import pytest

from opencood.config.loader import load_file
from opencood.errors import ConfigError
from opencood.experiments.build import build_model
from opencood.experiments.hypes_check import describe_model

REPOSITORIES = ("OpenCOOD", "CoAlign", "V2V4Real", "V2X-Real")
PLACEHOLDERS = ("precalc.yaml", "visualization.yaml")


def wanted(entry):
    """The entry that holds the figures: of the file, of its repaired form, or of what a fallback built."""
    return next((part for part in (entry.get("repaired"), entry.get("fallback")) if isinstance(part, dict)), entry)


def files_of(corpus, repository):
    status = json.loads((corpus / "build_status.json").read_text())
    names = [name for name in status if name.startswith(f"{repository}/")]
    names += ["CodeAlign/opv2v/MoreModality/lidar_camera_hmvit.yaml"] if repository == "OpenCOOD" else []
    return {name: wanted(status[name]) for name in names}


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_files_build_as_published(repository, corpus):
    different, refused = [], []
    for name, figures in files_of(corpus, repository).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hypes = load_file(corpus / "hypes" / name)
            try:
                built = describe_model(name, build_model(hypes))
            except ConfigError:
                refused.append(name)
                continue
        same = (built.sha1, built.parameters, built.entries)
        if same != (figures["sha1"], figures["params"], figures["state_dict_entries"]):
            different.append(name)
    assert not different
    assert all(name.endswith(PLACEHOLDERS) for name in refused)
