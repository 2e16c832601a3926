"""Inheritance: merge laws, removal, replacement, values changed everywhere, cycles, and line lookup through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.flavor import SHIPPED
from opencood.config.inheritance import merge, read_expanded
from opencood.config.reader import Document
from opencood.config.source import Place, Source
from opencood.errors import ConfigError

values = st.integers() | st.lists(st.integers(), max_size=3) | st.text("xyz", max_size=2)
trees = st.recursive(values, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4), max_leaves=10)
maps = st.dictionaries(st.sampled_from("abcd"), trees, max_size=4)


def document(data: dict) -> Document:
    return Document(data, Place("file.yaml", 1))


def merged(*layers: dict) -> dict:
    result = document({})
    for layer in layers:
        result = merge(result, document(layer))
    return result.data


@settings(deadline=None)
@given(maps)
def test_merging_with_nothing_or_itself_changes_nothing(tree: dict) -> None:
    assert merged({}, tree) == merged(tree, {}) == merged(tree, tree) == tree


@settings(deadline=None)
@given(maps, maps, maps)
def test_the_last_layer_decides_each_value(first: dict, second: dict, third: dict) -> None:
    assert merged(merged(first, second), third) == merged(first, second, third)
    result = merged(first, second)
    assert list(result) == list(dict.fromkeys([*first, *second]))
    for key, value in second.items():
        if not (isinstance(value, dict) and isinstance(first.get(key), dict)):
            assert result[key] == value


@settings(deadline=None)
@given(maps, maps)
def test_merging_changes_neither_input(first: dict, second: dict) -> None:
    before = repr((first, second))
    merged(first, second)
    assert repr((first, second)) == before


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def expand(path: Path) -> dict:
    return read_expanded(path)[0].data


def test_maps_merge_and_lists_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, base="a: {x: 1, y: [1, 2]}\nb: 1\n", child="_base_: base.yaml\na: {y: [3]}\n")
    assert expand(tmp_path / "child.yaml") == {"a": {"x": 1, "y": [3]}, "b": 1}


def test_several_bases_in_order_and_relative_to_each_file(tmp_path: Path) -> None:
    below = tmp_path / "parts"
    below.mkdir()
    write(below, one="_base_: zero.yaml\na: 1\n", zero="a: 0\nz: 0\n", two="a: 2\n")
    write(tmp_path, child="_base_: [parts/one.yaml, parts/two.yaml]\nc: 3\n")
    document, files = read_expanded(tmp_path / "child.yaml")
    assert document.data == {"a": 2, "z": 0, "c": 3}
    assert [file.name for file in files] == ["zero.yaml", "one.yaml", "two.yaml", "child.yaml"]


def test_delete_and_replace(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="a: {x: 1, y: 2}\nb: {x: 1}\n",
        child="_base_: base.yaml\na: {x: _delete_}\nb: {_replace_: true, z: 3}\n",
    )
    assert expand(tmp_path / "child.yaml") == {"a": {"y": 2}, "b": {"z": 3}}


def test_deleting_what_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, base="a: {shrink_header: 1}\n", child="_base_: base.yaml\na:\n  shrink_heder: _delete_\n")
    with pytest.raises(ConfigError, match=r"child\.yaml:3: a\.shrink_heder: .*Did you mean 'shrink_header'"):
        expand(tmp_path / "child.yaml")


def test_everywhere_changes_every_inherited_place(tmp_path: Path) -> None:
    base = "range: &r [1, 2]\na: {range: *r, b: {range: *r}}\n"
    write(tmp_path, base=base, child="_base_: base.yaml\n_everywhere_:\n  range: [3, 4]\na: {c: 1}\n")
    document = read_expanded(tmp_path / "child.yaml")[0]
    assert document.data == {"range": [3, 4], "a": {"range": [3, 4], "b": {"range": [3, 4]}, "c": 1}}
    assert Source(document.place).where("a.b.range").endswith("child.yaml:3")


def test_everywhere_needs_a_key_that_exists(tmp_path: Path) -> None:
    write(tmp_path, base="lidar_range: 1\n", child="_base_: base.yaml\n_everywhere_: {lidar_rnge: 2}\n")
    with pytest.raises(ConfigError, match="Did you mean 'lidar_range'"):
        expand(tmp_path / "child.yaml")


def test_a_cycle_is_named(tmp_path: Path) -> None:
    write(tmp_path, one="_base_: two.yaml\n", two="_base_: one.yaml\n")
    with pytest.raises(ConfigError, match=r"one\.yaml -> two\.yaml -> one\.yaml"):
        expand(tmp_path / "one.yaml")


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    write(tmp_path, common="a: 1\n", child="_base_: comon.yaml\n")
    with pytest.raises(ConfigError, match=r"comon\.yaml: no such file\. Did you mean 'common\.yaml'"):
        expand(tmp_path / "child.yaml")


def test_base_must_be_a_name_or_names(tmp_path: Path) -> None:
    write(tmp_path, child="a: 1\n_base_: {x: 1}\n")
    with pytest.raises(ConfigError, match=r"child\.yaml:2: _base_"):
        expand(tmp_path / "child.yaml")


def test_lines_are_found_in_the_file_that_wrote_the_key(tmp_path: Path) -> None:
    write(tmp_path, base="a:\n  x: 1\n  y: 2\nb: 3\n", child="_base_: base.yaml\na:\n  y: 5\n")
    source = Source(read_expanded(tmp_path / "child.yaml")[0].place)
    assert source.where("a.x").endswith("base.yaml:2")
    assert source.where("a.y").endswith("child.yaml:3")
    assert source.where("b").endswith("base.yaml:4")
    assert source.where("a.never_written").endswith("child.yaml:2")


def test_aliases_of_the_base_stay_one_object(tmp_path: Path) -> None:
    write(tmp_path, base="a: {p: &p {x: 1}}\nb: {q: *p}\n", child="_base_: base.yaml\na: {r: 1}\n")
    data = expand(tmp_path / "child.yaml")
    assert data["a"]["p"] is data["b"]["q"]


def test_a_copy_of_a_shipped_file_still_finds_its_bases(tmp_path: Path) -> None:
    """Published command lines copy a file of the clone into a run folder, as its config.yaml."""
    name = "opv2v/Heter_group/codebook/pyramid.yaml"
    copy = tmp_path / "run" / "config.yaml"
    copy.parent.mkdir()
    copy.write_bytes((SHIPPED / name).read_bytes())
    assert read_expanded(copy)[0].data == read_expanded(SHIPPED / name)[0].data
    write(tmp_path, lost="_base_: ../_parts/nothing.yaml")
    with pytest.raises(ConfigError, match=r"_parts/nothing\.yaml"):
        read_expanded(tmp_path / "lost.yaml")
