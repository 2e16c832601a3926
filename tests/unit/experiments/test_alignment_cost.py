"""The bookkeeping of parameters and bits gives the figures of spec codealign.md section 12."""

import pytest

from opencood.errors import ConfigError
from opencood.experiments.alignment_cost import (
    ALONE,
    DAIR,
    Elements,
    aligned_backwards,
    codefilling_bits,
    codefilling_elements,
    parameter_lines,
    payload,
    stage,
    stamp_elements,
    tables,
    trained_elements,
    translator_elements,
)


def test_parts_have_their_published_sizes():
    assert translator_elements("convnext") == Elements(116_960, 9 * 16 * 16 + 16)
    assert translator_elements("convnext_with_modal_heads") == Elements(160_928, 0)
    assert stamp_elements() == Elements(309_376, 2 * (9 * 64 * 64 + 64))
    assert codefilling_elements() == Elements(69_638, 0)
    with pytest.raises(ConfigError, match="unknown translator 'convnet'"):
        translator_elements("convnet")


@pytest.mark.parametrize(("modality", "elements"), [("m2", 1_076_032), ("m6", 1_911_792)])
def test_backward_alignment_of_a_library_modality_trains_what_heals_files_train(modality, elements):
    assert trained_elements(aligned_backwards(modality), [modality]).trained == elements


def test_lines_follow_the_shape_of_groups_and_the_number_of_directions():
    lines = {line.what: line for line in parameter_lines(["m2"])}
    alone = [lines[f"CodeAlign, 1 groups of one, {ways} direction(s)"] for ways in (1, 2)]
    assert [line.elements.trained for line in alone] == [431_073, 548_033]
    assert alone[0].share == 431_073 / 1_076_032
    assert lines["CodeAlign, one group of 1, 1 direction(s)"].elements.trained == 431_073
    assert lines["CodeAlign, all join an existing code space"].elements.trained == 296_448
    template = lines["CodeAlign, published template of a group of 1, 1 direction"].elements
    assert template.trained == 296_448 + 17_665 + 5_237_847 + 116_960
    assert all(line.elements.idle < line.elements.trained for line in lines.values())
    text = "\n".join(tables(list(lines.values()), {"maps": [8 * 1024], "words": [16]}, markdown=True))
    assert "| words | 16 (1.0; 1/512) |" in text and "40.1 %" in text


def test_messages_have_their_published_sizes():
    assert payload(stage(ALONE, ["m1"]), "m1") == 262_144
    assert payload(stage(ALONE, ["m1"], codebook=None), "m1") == 512 * 262_144
    assert payload(stage(DAIR, ["m1"]), "m1") == 131_072
    assert payload(stage(ALONE, ["m6"], "heter_codebook_shared_head_reorder"), "m6") == 65_536
    assert codefilling_bits(64 * 128) == 8 * 1024 * (24 + 1)
