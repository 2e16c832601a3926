"""The code space: what is sampled, what gradients pass, what the wire gives back."""

import pytest
import torch

from opencood.communication import Message, decode, encode
from opencood.errors import ConfigError
from opencood.models.links.quantizer import Codebook
from opencood.models.links.sampling import LowerBound, straight_through
from opencood.models.links.translators import Translator
from opencood.models.links.wire import Wire

LIMITS = [-8.0, -4.0, -3, 8.0, 4.0, 1]
SHAPES = [(1, 16, 1), (2, 8, 1), (1, 5, 2), (4, 6, 3)]
# Elements at the published size, table of spec codealign.md 3.
SIZES = {
    "convnext": 116_960,
    "convnext_with_modal_heads": 160_928,
    "convnext_film": 365_280,
    "convnext_emb_cat": 121_312,
    "convnext_emb_mlp_cat": 176_656,
    "convnext_emb_gate": 119_344,
    "convnext_emb_gate_multilayer": 162_368,
}


def codebook(groups=1, words=16, levels=1, **options):
    torch.manual_seed(3)
    return Codebook(groups, words, levels, 16, **options)


def section(**inner):
    args = {"in_channels": 64, "out_channels": 16, "in_cav_lidar_range": LIMITS, "out_cav_lidar_range": LIMITS}
    args |= {"in_feature_shape": [8, 16], "out_feature_shape": [8, 16]}
    names = ["m1", "m3"]
    return args | {"submodule_args": {"num_of_blocks": 3, "modality_map": names, "film_args": FILM} | inner}


FILM = {"emb_dim": 64, "modality_map": ["m1", "m3"]}


def test_the_published_code_space_has_its_size():
    assert sum(p.numel() for p in Codebook(1, 16, 1).parameters()) == 17_665


@pytest.mark.parametrize("kind", SIZES)
def test_translators_have_their_published_size(kind):
    with torch.device("meta"):
        assert sum(p.numel() for p in Translator(kind, section()).parameters()) == SIZES[kind]


@pytest.mark.parametrize("form", ["packed", "entropy"])
@pytest.mark.parametrize(("groups", "words", "levels"), SHAPES)
def test_what_arrives_is_what_was_quantised_to_the_bit(groups, words, levels, form):
    space = codebook(groups, words, levels).eval()
    level = torch.randn(2, 16, 5, 7)
    with torch.no_grad():
        samples = space.encode_map(level)
        wire = Wire(space.layers, words, form)
        sent = [Message(wire.write("m1", samples[i : i + 1].argmax(2))) for i in range(2)]
        words_back = wire.read("m1", [decode(encode(message)) for message in sent])
        assert torch.equal(words_back, samples.argmax(2))
        assert torch.equal(space.decode_map(words_back), space.decode_map(samples.argmax(2)))
        assert torch.allclose(space.decode_map(words_back), space.decode_map(samples), atol=1e-5)


def test_the_published_message_is_half_a_byte_per_cell():
    payload = Wire(1, 16).write("m1", torch.zeros(1, 1, 256, 256, dtype=torch.long))
    assert payload["m1"].numel() == 32 * 1024
    assert 0 < len(encode(Message(payload, "m1"))) - 32 * 1024 < 100


def test_evaluation_is_deterministic_unless_it_samples():
    level = torch.randn(1, 16, 6, 6)
    still, drawn = codebook().eval(), codebook(sample_in_eval=True).eval()
    assert torch.equal(still.encode_map(level), still.encode_map(level))
    torch.manual_seed(0)
    assert not torch.equal(drawn.encode_map(level), drawn.encode_map(level))
    assert torch.equal(drawn.nearest_map(level), still.nearest_map(level))


@pytest.mark.parametrize("training", [False, True])
def test_gradients_pass_a_frozen_code_space(training):
    space = codebook(2, 8, 2).requires_grad_(False).train(training)
    level = torch.randn(1, 16, 4, 4, requires_grad=True)
    space.decode_map(space.encode_map(level)).square().sum().backward()
    assert level.grad.abs().sum() > 0


def test_draws_follow_the_logits():
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(20_000, 3)
    generator = torch.Generator().manual_seed(0)
    drawn = straight_through(logits, -1, lambda x: torch.rand(x.shape, generator=generator)).mean(0)
    assert torch.allclose(drawn, torch.tensor([0.7, 0.2, 0.1]), atol=0.015)


def test_a_bound_lets_through_what_would_raise():
    x = torch.tensor([0.0, 0.0, 2.0, 2.0], requires_grad=True)
    LowerBound.apply(x, torch.tensor(1.0)).backward(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert x.grad.tolist() == [0.0, -1.0, 1.0, -1.0]


def test_the_resolution_changes_along_its_own_axis():
    wide = section(dim=8, num_of_blocks=1) | {"out_feature_shape": [8, 48]}
    x = torch.randn(1, 64, 4, 10)
    assert Translator("convnext", wide)(x, "m1").shape == (1, 16, 4, 30)
    late = wide | {"submodule_args": wide["submodule_args"] | {"late_upsample": True}}
    assert Translator("convnext_with_modal_heads", late)(x, "m3").shape == (1, 16, 4, 30)


def test_wrong_translators_are_refused():
    with pytest.raises(ConfigError, match="made for m1, m3, not for 'm7'"):
        Translator("convnext_film", section())(torch.randn(1, 64, 4, 4), "m7")
    with pytest.raises(ConfigError, match="do not change the resolution"):
        Translator("convnext_emb_gate", section() | {"out_feature_shape": [16, 32]})
    with pytest.raises(ConfigError, match="deform"):
        Translator("convnext", section(deform=True))
    with pytest.raises(ConfigError, match="unknown translator 'convnet'.*convnext"):
        Translator("convnet", section())


@pytest.mark.parametrize("wrong", [(3, 8, 1), (1, 1, 1), (1, 8, 0)])
def test_a_code_space_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="must divide"):
        codebook(*wrong)
