"""Losses of code spaces, against plain computations."""

import pytest
import torch
import torch.nn.functional as F

from opencood.errors import ConfigError
from opencood.losses.build import build_loss
from opencood.losses.code_instances import instance_similarity
from opencood.losses.code_terms import TERMS, pixel_similarity

DETECTION = {
    "pos_cls_weight": 2.0,
    "cls": {"alpha": 0.25, "gamma": 2.0, "weight": 1.0},
    "reg": {"sigma": 3.0, "weight": 2.0},
    "pyramid": {"relative_downsample": [1], "weight": [0.4]},
}


def loss(codebook, parity="fixed", **args):
    section = {"core_method": "point_pillar_pyramid_codebook_loss", "args": DETECTION | {"codebook": codebook} | args}
    return build_loss({"loss": section, "flavor": "codealign", "parity": parity})


def features(agents, channels=5, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(agents, channels, size, size, generator=generator)


def outputs(counts, names):
    maps = [features(count, seed=i) for i, count in enumerate(counts)]
    return {
        "single_feature_warped": maps,
        "single_warp_mask": [torch.ones(len(m), 6, 6) for m in maps],
        "agent_modality_list": names,
        "codebook_loss": torch.tensor(0.5),
    }


TARGETS = {"pos_equal_one": torch.zeros(2, 6, 6, 2), "targets": torch.zeros(2, 6, 6, 14)}


def test_mahalanobis_is_the_length_under_the_pooled_covariance():
    first, second = features(2)
    mask = torch.zeros(6, 6)
    mask[1:5, 2:] = 1
    x, y = (level[:, mask > 0].T.double().numpy() for level in (first, second))
    import numpy as np

    inverse = np.linalg.pinv(np.cov(np.concatenate([x, y]).T))
    wanted = np.mean([d @ inverse @ d for d in x - y])
    assert TERMS["mahalanobis"](first, second, mask).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", TERMS)
def test_equal_maps_differ_by_nothing_and_nothing_seen_counts_nothing(name):
    level = features(1)[0]
    assert TERMS[name](level, level, torch.ones(6, 6)).item() == pytest.approx(0, abs=1e-5)
    level.requires_grad_()
    unseen = TERMS[name](level, features(1, seed=1)[0], torch.zeros(6, 6))
    unseen.backward()
    assert unseen.item() == 0 and torch.isfinite(level.grad).all()


def test_the_channel_means_of_two_agents_are_a_unit_vector():
    maps = features(2)
    means = F.normalize(maps.mean(1), dim=0)
    wanted = 1 - (means[0] * means[1]).mean()
    assert pixel_similarity(maps, torch.ones(2, 6, 6), torch.ones(6, 6), "mean").item() == pytest.approx(wanted.item())


def test_instances_are_pooled_as_adaptive_pooling_does():
    first, second = features(2, size=20)
    second[:, 15, 15] = 0
    boxes = torch.tensor([[1, 2, 4, 9], [0, 0, 20, 12], [3, 3, 4, 4], [5, 5, 5, 9], [14, 14, 17, 17]])
    a, b = [], []
    for x0, y0, x1, y1 in boxes[:3].tolist():
        a.append(F.adaptive_avg_pool2d(first[:, y0:y1, x0:x1], 9).flatten())
        b.append(F.adaptive_max_pool2d(second[:, y0:y1, x0:x1], 9).flatten())
    logits = F.normalize(torch.stack(a), dim=1) @ F.normalize(torch.stack(b), dim=1).T / 0.5
    wanted = F.cross_entropy(logits, torch.arange(3))
    assert instance_similarity(first, second, boxes, 9, 0.5).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert instance_similarity(first, second, boxes[3:], 9, 0.5).item() == 0


def test_boxes_are_read_as_the_data_set_writes_them():
    content = outputs([2], ["m1", "m2"])
    section = {"InstanceSimLoss": {"weight": 1.0, "pool_size": 9, "temperature": 0.5}}
    boxes = torch.tensor([[0, 1, 2, 6], [2, 3, 4, 4]])
    rows_first = {"gt_boxes": [boxes], **TARGETS}
    columns_first = {"gt_boxes": [boxes[:, [1, 0, 3, 2]]], **TARGETS}
    ours, published = (loss(section, parity, detection_fix=True) for parity in ("fixed", "published"))
    assert torch.equal(ours(content, rows_first)[0], published(content, columns_first)[0])
    assert not torch.equal(ours(content, rows_first)[0], published(content, rows_first)[0])


def test_every_sample_has_its_own_modalities():
    content = outputs([1, 2], ["m1", "m4", "m4"])
    section = {"l2": {"weight": 0.1}}
    assert loss(section, detection_fix=True)(content, TARGETS)[0] == 0
    assert loss(section, "published", detection_fix=True)(content, TARGETS)[0] > 0


def test_terms_are_reported_without_and_their_sum_with_their_weights():
    content = outputs([2], ["m1", "m2"])
    total, terms = loss({"l2": {"weight": 0.1}, "ReconstructionLoss": {"weight": 2.0}}, detection_fix=True)(
        content, TARGETS
    )
    assert terms["recon_loss"] == 0.5
    assert torch.isclose(terms["codebook_loss"], 0.1 * terms["l2_loss"] + 1.0)
    assert torch.isclose(total, terms["codebook_loss"]) and torch.isclose(terms["total_loss"], total)


def test_what_is_wrong_is_named():
    with pytest.raises(ConfigError, match="unknown term 'cosin'.*cosine"):
        loss({"cosin": {"weight": 1}})
    with pytest.raises(ConfigError, match=r"l2\.weight: missing"):
        loss({"l2": {}})
    with pytest.raises(ConfigError, match="pixel_sim"):
        loss({"l2": {"weight": 1}}, detection_fix=True)({"codebook_loss": torch.tensor(0.0)}, TARGETS)
    with pytest.raises(ConfigError, match="needs the output 'codebook_loss'"):
        loss({"ReconstructionLoss": {"weight": 1}}, detection_fix=True)(
            outputs([2], []) | {"codebook_loss": None}, TARGETS
        )
