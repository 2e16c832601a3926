"""Hypes with one thing wrong build, or say which key is wrong; a user's own part keeps its trace."""

import random
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.errors import ConfigError, OpencoodError
from opencood.models.assembly import Part
from opencood.models.build import build_model
from opencood.models.builder import assembly_of, build_detector

FILES = sorted(
    path for path in SHIPPED.rglob("*.yaml") if not any(p.startswith("_") for p in path.relative_to(SHIPPED).parts)
)
WRONG = ["abc", [], {}, -1, 0, 1.5, True, None, [1, 2], {"a": 1}]


def maps_below(node, path=("model", "args")):
    """Key paths below model.args."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield (*path, key)
        yield from maps_below(value, (*path, key))


@pytest.mark.parametrize("seed", range(40))
def test_one_wrong_value_builds_or_is_named(seed, tmp_path):
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hypes = load_file(rng.choice(FILES))
        content = yaml.safe_load(yaml.safe_dump(dict(hypes)))
        paths = list(maps_below((content.get("model") or {}).get("args") or {}))
        if not paths:
            pytest.skip("a file without a model")
        path = rng.choice(paths)
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = rng.choice(WRONG)
        try:
            with torch.device("meta"):
                build_model(content)
        except OpencoodError as error:
            assert "\n" not in str(error) and str(error)


PILLARS = Path("sim/intermediate.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("m1",), 3.0, "model.args.m1: a map is expected"),
        (("m1", "encoder_args", "voxel_size"), [0.4, None, 4], r"encoder_args.voxel_size: a list of 3 numbers"),
        (("dir_args",), 1.5, "model.args.dir_args: a map or nothing is expected"),
        (("m1", "backbone_args", "num_filters"), [32, -1, 64], "model.args.m1: these values make no backbone_m1"),
    ],
)
def test_the_key_is_named(key, value, message):
    hypes = yaml.safe_load(yaml.safe_dump(dict(load_file(SHIPPED / PILLARS))))
    node = hypes["model"]["args"]
    for step in key[:-1]:
        node = node[step]
    node[key[-1]] = value
    with pytest.raises(ConfigError, match=message):
        build_model(hypes)


def test_a_users_own_part_keeps_its_trace():
    hypes = load_file(SHIPPED / PILLARS)
    row = assembly_of(hypes["model"]["core_method"])

    def broken(ctx):
        raise KeyError("mine")

    broken_row = replace(row, parts=(Part("encode", "mine", broken), *row.parts))
    with pytest.raises(KeyError, match="mine"):
        build_detector(broken_row, hypes["model"]["args"], hypes)
