"""The bookkeeping of CodeAlign's claims at published size: the numbers of the specification (codealign.md 12)."""

import pytest

from opencood.experiments import codealign_costs as costs
from opencood.tools import codealign_costs as tool

NETWORKS = {
    "m1": 226_944,
    "m2": 966_592,
    "m3": 559_296,
    "m4": 226_944,
    "m5": 226_944,
    "m6": 1_802_352,
    "m7": 14_902_932,
}


def test_parts_have_the_published_sizes():
    assert costs.aligner().all == 296_448
    assert costs.codebook().all == 17_665
    assert costs.codebook(3, 2, 16, 128).all == 270_342
    assert costs.translator().all == 116_960
    assert costs.translator().used == 116_960 - (9 * 16 * 16 + 16)  # its last convolution is not run
    heads = costs.translator("convnext_with_modal_heads", targets=2)
    assert heads.all == heads.used == 160_928
    assert costs.translator(width=128, out=128).all * 2 == 547_200


@pytest.mark.parametrize(("modality", "elements"), NETWORKS.items())
def test_networks_have_the_published_sizes(modality, elements):
    network, backend = costs.stage_0(modality)
    assert network.all == elements
    assert backend.all == 5_237_847


@pytest.mark.parametrize(
    ("shape", "elements"),
    [
        (costs.Bookkeeping((1,)), 431_073),
        (costs.Bookkeeping((1,), directions=2), 548_033),
        (costs.Bookkeeping((1,), "convnext_with_modal_heads"), 475_041),
        (costs.Bookkeeping((1, 1, 1)), 1_293_219),
        (costs.Bookkeeping((3,)), 1_023_969),
        (costs.Bookkeeping((1,), joins=True), 296_448),
        (costs.Bookkeeping((2,), directions=0, backend=True), 5_848_408),
    ],
)
def test_shapes_of_groups_cost_what_they_should(shape, elements):
    assert shape.total().all == elements


def test_the_tool_prints_every_table(capsys, tmp_path):
    tool.main([])
    text = capsys.readouterr().out
    assert "18,000,196" in text and "7.2 %" in text and "262,144" in text
    tool.main(["--out", str(tmp_path / "costs.md")])
    assert (tmp_path / "costs.md").read_text().count("| --- |") == 3
