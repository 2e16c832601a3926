"""Between the end of encode and the heads nothing waits for the device: shapes and groupings are host values.

The device here is ``meta``, whose tensors have no values: whoever asks for one fails, as it would wait on a GPU.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from model_samples import COLLABORATIVE, FUSIONS, batch, hypes
from test_precision_and_compile import lidar_and_camera
from torch.utils._python_dispatch import TorchDispatchMode

from opencood.batch import to_device
from opencood.models.build import build_model

WAITING = ("_local_scalar_dense", "nonzero", "unique", "_unique", "masked_select", "is_nonzero", "equal")
# Their results have a size that depends on values.
BY_VALUE = ("nonzero", "_unique2", "masked_select", "index by mask")
CASES = [(name, {}) for name in COLLABORATIVE]
CASES += [("heter_model_baseline", {"fusion_method": method, method: args}) for method, args in FUSIONS.items()]
# What encode may ask the device for. Lift-Splat-Shoot asks which points are inside the grid.
IN_ENCODE = {"lidar": {}, "camera": {"nonzero": 1}}


class Waits(TorchDispatchMode):
    """Counts what would make the host wait: operations that need values of device tensors, copies to the host."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        on_device = [a for a in inputs if a.device.type == self.device]
        name = func.overloadpacket.__name__
        if on_device and any(name.startswith(word) for word in WAITING):
            self.seen[name] += 1
        if name in ("index", "index_put_") and any(a.dtype == torch.bool for a in on_device[1:]):
            self.seen["index by mask"] += 1  # a hidden nonzero
        if on_device and name in ("_to_copy", "copy_") and str((kwargs or {}).get("device")) == "cpu":
            self.seen[f"{name} to the host"] += 1
        return func(*args, **(kwargs or {}))


def waits_after_encode(model, scene):
    """What waits between the end of encode and the outputs, on a device without values."""
    maps = tuple(level.to("meta") for level in scene.maps)
    facts = {name: getattr(scene, name) for name in ("pairwise", "kind", "delay", "speed", "correction", "pose")}
    scene = replace(scene, maps=maps, aux=to_device(scene.aux, "meta"), **to_device(facts, "meta"))
    with Waits("meta") as waits:
        outputs = model.to("meta").finish(scene)
    assert {value.device.type for key, value in outputs.items() if key.endswith("_preds")} == {"meta"}
    return waits.seen


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_nothing_waits_with_lidar(name, changes, training):
    model, content = build_model(hypes(name, **changes)).train(training), batch(name)
    assert not waits_after_encode(model, model.encode(content))
    with Waits("meta") as in_encode:
        model.to("meta").encode(to_device(content, "meta"))
    assert in_encode.seen == IN_ENCODE["lidar"]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_nothing_waits_with_two_sensors(training):
    model, content = lidar_and_camera()
    with Waits("cpu") as in_encode:
        scene = model.train(training).encode(content)
    # the host is the device here, so scalars and copies say nothing
    assert {name: n for name, n in in_encode.seen.items() if name in BY_VALUE} == IN_ENCODE["camera"]
    assert not waits_after_encode(model, scene)


def test_the_watch_sees_who_waits():
    values = torch.arange(3.0)
    with Waits("cpu") as waits:
        values.nonzero(), values.unique(), values.masked_select(values > 1), values[values > 1], values.sum().item()
    assert waits.seen == dict.fromkeys([*BY_VALUE, "_local_scalar_dense"], 1)
