"""What a method claims to send is what its detections depend on."""

import pytest
import torch
from codealign_samples import WORDS
from model_samples import CODED, COLLABORATIVE, FUSIONS, batch, cloud, hypes, input_key

from opencood.communication import Channel, encode
from opencood.models.build import build_model

COMPRESSED = {"compressor": {"input_dim": 24, "compress_ratio": 4}}
# Send codes or chosen cells of half the map.
SMALL = {"point_pillar_where2comm", "point_pillar_intermediate", "point_pillar_coalign"}
SMALL |= {"center_point_intermediate"}
# The same link as point_pillar_where2comm; yaws of fresh heads are the direction of next to nothing.
SHAKY = {"center_point_where2comm"}
# Detectors whose fresh weights make next to nothing of the sample.
FAINT = {
    "point_pillar_v2vnet_robust": 1,
    "point_pillar_intermediate": 2,
    "point_pillar_mash": 4,
    "point_pillar_where2comm": 2,
}
CASES = [(name, {}) for name in COLLABORATIVE if name not in SHAKY] + [("heter_model_baseline", COMPRESSED)]
BY_SELECTION = {"thre": 0.0, "solver": {"thre": 1.0, "method": "max"}}
CASES += [
    ("heter_model_baseline_w_codebook", {"communication": BY_SELECTION}),
    ("heter_model_baseline_w_gencomm_stage2", {"sampling": {"start": "warped_ego", "keep_ego_feature": True}}),
    ("heter_model_baseline_w_mpda", {"missing_message": True}),
]
# How many times fewer bytes than the map a message may have.
SQUEEZED = {"w_gencomm": 12, "w_codebook": 60}
CASES += [("heter_model_baseline", {"fusion_method": method, method: args}) for method, args in FUSIONS.items()]
pytestmark = pytest.mark.parametrize(("name", "changes"), CASES)


def detector(name, changes):
    torch.manual_seed(1)
    model = build_model(hypes(name, **changes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter *= FAINT.get(name, 1) if parameter.dim() > 1 else 1
    if name in FAINT:
        model.cls_head.weight *= 50
    if name.endswith("w_codebook"):
        _learn_words(model, batch(name))
    return model


def _learn_words(model, sample):
    """Words that are cells of the sample: those of an untrained codebook are too far off to tell cells apart."""
    state = model.state_dict()
    cells = model.encode(sample).map.permute(0, 2, 3, 1).flatten(0, 2)
    state["coodbook._encoders.0._quantizer._codebook"].copy_(cells[::110][:12].unflatten(1, (2, -1)).transpose(0, 1))
    for head in ("_latentStageEncoder", "_quantizationHead"):
        state[f"coodbook._encoders.0.{head}.weight"].copy_(torch.eye(24))
        state[f"coodbook._encoders.0.{head}.bias"].zero_()


def request_of(model, sample):
    return model.link.request(model.encode(sample).of_egos())


def same(a, b, atol=1e-6):
    keys = [key for key in ("cls_preds", "reg_preds", "dir_preds") if key in a]
    return bool(keys) and all(torch.allclose(a[key], b[key], atol=atol) for key in keys)


def test_detections_follow_from_the_encoded_messages(name, changes):
    model, sample = detector(name, changes), batch(name)
    direct = model(sample)
    model.channel = Channel()
    model.channel.meter.start_frame()
    assert same(model(sample), direct)
    # three and two agents: two collaborators send to the first ego, one to the second
    answers = {(0, 1, 0), (0, 2, 0), (1, 1, 0)}
    asked = {(scene, ego, agent) for scene, agent, ego in answers} if request_of(model, sample) else set()
    assert set(model.channel.meter.links) == answers | asked


def test_every_message_costs_its_bytes(name, changes):
    model, sample = detector(name, changes), batch(name)
    model.channel = Channel()
    model.channel.meter.start_frame()
    model(sample)
    scene = model.encode(sample)
    sizes = [len(encode(model.link.send(scene.alone(row)))) for row in (1, 2, 4)]
    request = request_of(model, sample)
    assert model.channel.meter.bytes_of_frame() == sum(sizes) + (3 * len(encode(request)) if request else 0)
    cells = scene.maps[0][0, 0].numel()
    sends_words = name in CODED and name not in ("heter_pyramid_shared_head", "homo_collab")
    squeezed = next((factor for method, factor in SQUEEZED.items() if method in name), 64 if name in SMALL else 4)
    bits_per_cell = (WORDS - 1).bit_length() if sends_words else scene.maps[0].shape[1] * 32 / squeezed
    assert sizes[0] >= cells * bits_per_cell / 8
    assert not sends_words or sizes[0] < cells * bits_per_cell / 8 + 200


def test_an_agent_changes_no_message_but_its_own(name, changes):
    model, sample = detector(name, changes), batch(name)
    other = {**sample, input_key(name): _with_other_cloud(sample[input_key(name)], agent=1)}
    scenes = [model.encode(content) for content in (sample, other)]
    for row in range(5):
        before, after = (encode(model.link.send(scene.alone(row))) for scene in scenes)
        assert (before == after) == (row != 1)


@pytest.mark.parametrize("channel", [Channel(drop=1.0), Channel(agents=1)], ids=["lost", "ego alone"])
def test_without_messages_the_ego_is_alone(name, changes, channel):
    model, sample = detector(name, changes), batch(name)
    model.channel = channel
    alone = model(sample)
    other = {**sample, input_key(name): _with_other_cloud(sample[input_key(name)], agent=1)}
    assert same(model(other), alone, atol=0)
    model.channel = None
    assert not same(model(sample), alone)
    assert same(model(_egos_only(name)), alone)


def test_the_first_k_agents_are_those_agents(name, changes):
    model, sample = detector(name, changes), batch(name, (3,))
    model.channel = Channel(agents=2)
    first_two = model(sample)
    model.channel = None
    assert same(model(batch(name, (2,))), first_two)


def test_one_lost_message_is_one_agent_less(name, changes):
    model, sample = detector(name, changes), batch(name, (3,))

    class LosesTheFirst(Channel):
        def transmit(self, message, sender, receiver, scene=0):
            return None if sender == 1 else super().transmit(message, sender, receiver, scene)

    model.channel = LosesTheFirst()
    lossy = model(sample)
    model.channel = None
    without = batch(name, (2,))
    seen = cloud([0, 2])
    seen["voxel_coords"][:, 0] = seen["voxel_coords"][:, 0].clamp(max=1)
    without[input_key(name)] = seen
    without["pairwise_t_matrix"] = sample["pairwise_t_matrix"][:, [0, 2]][:, :, [0, 2]]
    without |= {name: sample[name][:, [0, 2]] for name in ("prior_encoding", "spatial_correction_matrix")}
    without["lidar_pose"] = sample["lidar_pose"][[0, 2]]
    assert same(model(without), lossy)


def test_losses_are_repeatable(name, changes):
    model, sample = detector(name, changes), batch(name)

    def run():
        model.channel = Channel(drop=0.5, seed=7)
        return model(sample)

    assert same(run(), run(), atol=0)


def test_every_level_of_the_channel_acts_on_every_method(name, changes):
    model, sample = detector(name, changes), batch(name)

    def heard(**levels):
        model.channel = Channel(**levels)
        model.channel.start_frame(0)
        outputs = model(sample)
        assert all(outputs[key].isfinite().all() for key in ("cls_preds", "reg_preds") if key in outputs)
        return outputs, model.channel.meter

    direct, plain = heard()
    _, short = heard(precision="int8")
    assert short.total_bytes < plain.total_bytes or not _sends_values(model, sample)
    near = heard(precision="int16")[0]["cls_preds"] - direct["cls_preds"]
    assert near.abs().median() < 2e-2  # hard choices fall otherwise in some cells
    damaged, meter = heard(bit_error=1e-3)
    assert meter.total_bytes >= plain.total_bytes
    assert meter.lost or not same(damaged, direct, atol=0)
    longest = max(plain.links.values())
    _, thrifty = heard(budget=0.6 * longest / 1000)
    assert max(thrifty.links.values(), default=0) <= 0.6 * longest
    silent, nothing = heard(budget=1e-3)
    model.channel = Channel(agents=1)
    assert nothing.total_bytes == 0 and same(silent, model(sample), atol=0)


def _sends_values(model, sample):
    """Whether a message holds floating values worth shortening."""
    sent = model.link.send(model.encode(sample).alone(1)).sent
    return any(tensor.is_floating_point() and tensor.numel() > 64 for tensor in sent.values())


def test_training_does_no_codec_work(name, changes):
    model, sample = detector(name, changes), batch(name)
    model.channel = Channel(drop=1.0)
    model.train()
    model(sample)
    assert model.channel.meter.total_bytes == 0


def _with_other_cloud(voxels, agent):
    changed = {key: value.clone() for key, value in voxels.items()}
    changed["voxel_features"][voxels["voxel_coords"][:, 0] == agent] += 0.3
    return changed


def _egos_only(name):
    sample = batch(name, (1, 1))
    voxels = cloud([0, 3])
    voxels["voxel_coords"][:, 0] = voxels["voxel_coords"][:, 0].clamp(max=1)
    return {**sample, input_key(name): voxels}
