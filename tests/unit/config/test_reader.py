"""Reading one file: every mistake is named with file and line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from opencood.config.reader import read_document
from opencood.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "file.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def message(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    return str(caught.value)


def test_places_go_through_anchors_and_lists(write) -> None:
    place = read_document(write("a: &a\n  b: 1\nc: *a\nd:\n  - NAME: x\n  - NAME: y\n")).place
    assert place.children["a"].children["b"].line == 2
    assert place.children["c"].line == 3
    assert place.children["c"].children["b"].line == 2
    assert place.children["d"].children["1"].children["NAME"].line == 6


def test_duplicate_keys_warn_with_both_lines_and_the_last_wins(write) -> None:
    path = write("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.warns(UserWarning, match=r"file\.yaml:4: key 'c' was already given in line 3"):
        assert read_document(path).data["b"] == {"c": 2}


def test_merge_keys_do_not_count_as_duplicates(write) -> None:
    path = write("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_document(path).data["b"] == {"x": 1, "y": 3}


def test_duplicate_anchors_are_an_error_with_both_lines(write) -> None:
    text = message(write("a: &x 1\nb: &x 2\n"))
    assert "file.yaml:2" in text
    assert "line 1" in text


def test_published_slip_nested_below_a_value(write) -> None:
    text = message(write("model:\n  args:\n    fusion_method: att\n      feat_dim: [64, 128]\n    in_head: 256\n"))
    assert "file.yaml:4" in text
    assert "'fusion_method: att'" in text
    assert "'att:'" in text


def test_published_slip_with_the_section_named(write) -> None:
    text = message(write("    fusion_method: att\n      att:\n        feat_dim: [64, 128]\n"))
    assert "file.yaml:2" in text
    assert "a map 'att:'" in text


def test_a_colon_in_a_text(write) -> None:
    assert "file.yaml:1" in message(write("note: a: b\n"))


def test_a_section_head_is_missing(write) -> None:
    text = message(write("name: x\n# train_params:\n  batch_size: 4\nroot_dir: y\n"))
    assert "file.yaml:" in text


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just text", "# nothing\n"])
def test_what_is_not_a_map(write, text: str) -> None:
    assert "expected a map" in message(write(text))


@pytest.mark.parametrize(
    "text", ["a: [1, 2\nb: 3\n", "a: {x: 1\n", 'a: "open\n', "\ta: 1\n", "a: *nobody\n", "a: 'x\n"]
)
def test_broken_yaml_names_a_line(write, text: str) -> None:
    assert "file.yaml:" in message(write(text))


def test_a_value_that_contains_itself(write) -> None:
    assert "file.yaml:1" in message(write("a: &a [1, *a]\n"))


def test_a_missing_file_names_the_nearest(write) -> None:
    path = write("a: 1\n", "lidar_attfuse.yaml")
    assert "Did you mean 'lidar_attfuse.yaml'" in message(path.with_name("lidar_atfuse.yaml"))


def test_not_a_text_file(write) -> None:
    assert "not a text file" in message(write(b"a: \xff\xfe\x00"))


def test_control_characters(write) -> None:
    assert "file.yaml" in message(write("a: \x01\n"))


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in message(tmp_path)
