"""The published files: every valid one loads with the published derived numbers, every broken one says where."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opencood.config.flavor import flavor_of
from opencood.config.loader import Hypes, load_yaml, reparse
from opencood.config.save import digest, save_config
from opencood.config.tree import lookup
from opencood.errors import ConfigError

# Structurally the same as a file of another repository, which is then what they mean.
LOOKS_LIKE = {
    ("CodeAlign", "heal"),
    ("GenComm", "heal"),
    ("STAMP", "heal"),
    ("HEAL", "coalign"),
    ("OpenCOOD", "coalign"),
    ("CooPre", "v2v4real"),
}


class Corpus:
    """All published files with what is known about them."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.work = work
        self.status: dict[str, Any] = json.loads((folder / "build_status.json").read_text())
        self.derived: dict[str, Any] = json.loads((folder / "derived.json").read_text())

    def load(self, key: str) -> Hypes:
        """Load a file where its repository's ``opencood/modality_assign`` is found."""
        with self.at_home(key), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*was already given in line")
            return load_yaml(self.folder / "hypes" / key)

    @contextmanager
    def at_home(self, key: str) -> Iterator[None]:
        """In a clone of the file's repository: its definitions name other checkpoints than ours."""
        here = Path.cwd()
        os.chdir(self._home_of(key.partition("/")[0]))
        try:
            yield
        finally:
            os.chdir(here)

    def reparsed(self, key: str, hypes: Hypes) -> Hypes:
        """The configuration parsed once more."""
        with self.at_home(key):
            return reparse(hypes)

    def _home_of(self, repository: str) -> Path:
        package = self.work / repository / "opencood"
        if not package.exists():
            package.mkdir(parents=True)
            (package / "modality_assign").symlink_to(self.folder / "modality_assign" / repository)
        return package.parent


@pytest.fixture(scope="module")
def published(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(corpus, tmp_path_factory.mktemp("repositories"))


@pytest.fixture(scope="module")
def loaded(published: Corpus) -> dict[str, Hypes]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {key: published.load(key) for key in published.derived}


pytestmark = pytest.mark.filterwarnings("ignore:.*using the definitions saved here")


def _differences(loaded: dict[str, Hypes], published: Corpus) -> Iterator[str]:
    for key, entries in published.derived.items():
        for path, value in entries.items():
            found = lookup(loaded[key], path)
            if found != value:
                yield f"{key}: {path}: {found!r}, published {value!r}"


def test_derived_numbers_are_the_published_ones(loaded: dict[str, Hypes], published: Corpus) -> None:
    assert list(_differences(loaded, published)) == []


def test_whole_configurations_are_the_published_ones(loaded: dict[str, Hypes], published: Corpus) -> None:
    wrong = [key for key, hypes in loaded.items() if digest(hypes) != published.status[key]["config_sha1"]]
    assert wrong == []


def test_parsing_again_changes_nothing(loaded: dict[str, Hypes], published: Corpus) -> None:
    assert [key for key, hypes in loaded.items() if published.reparsed(key, hypes) != hypes] == []


def test_saving_and_loading_changes_nothing(loaded: dict[str, Hypes], published: Corpus, tmp_path: Path) -> None:
    wrong = []
    for key, hypes in list(loaded.items())[::5]:
        save_config(hypes, tmp_path)
        with published.at_home(key):
            if load_yaml(None, model_dir=tmp_path) != hypes:
                wrong.append(key)
    assert wrong == []


def test_fixed_parity_differs_only_where_a_quotient_misses_its_integer(
    loaded: dict[str, Hypes], published: Corpus
) -> None:
    different = [
        k
        for k, hypes in loaded.items()
        if digest(published.reparsed(k, hypes.replaced({**hypes, "parity": "fixed"}))) != digest(hypes)
    ]
    assert all(key.endswith("SECOND_early.yaml") for key in different)


def test_flavors_are_the_repositories(loaded: dict[str, Hypes]) -> None:
    for key, hypes in loaded.items():
        repository, flavor = key.partition("/")[0], flavor_of(hypes)
        assert repository.lower().replace("-", "") == flavor or (repository, flavor) in LOOKS_LIKE, key
        assert hypes["parity"] == "published"


def test_broken_files_are_refused_with_their_line(published: Corpus) -> None:
    broken = [key for key in published.status if key not in published.derived]
    assert broken
    for key in broken:
        with pytest.raises(ConfigError, match=r"\.yaml:\d+: "):
            published.load(key)


def test_the_published_slip_gets_its_remedy(published: Corpus) -> None:
    key = "HEAL/opv2v/LiDAROnly/lidar_coalign.yaml"
    with pytest.raises(ConfigError, match=r"lidar_coalign\.yaml:122: 'feat_dim' .*'fusion_method: att'.*map 'att:'"):
        published.load(key)
