"""What a joining type costs at published size: the figures of the specification."""

from opencood.experiments.gencomm_costs import costs, lines, write_markdown

KMAC, CELLS = 2000, 64 * 128  # operations, cells of a map


def test_costs_are_those_of_the_specification(tmp_path):
    found = costs()
    parameters = {method: cost.parameters for method, cost in found.items()}
    mpda = 1_169_424 + 678_528 + 66_561 + 258 + 1806 + 516
    assert parameters == {
        "gencomm": 103_028, "backalign": 1_187_904, "stamp": 547_200, "codefilling": 270_342, "mpda": mpda,
    }  # fmt: skip
    per_cell = {method: cost.flops / CELLS / KMAC for method, cost in found.items()}
    assert abs(per_cell["gencomm"] - 98.7) < 0.5 and abs(per_cell["stamp"] - 248) < 1
    bare = {"gencomm": 65_536, "codefilling": 24_576 + 1024, "stamp": 4 * 2**20}
    assert all(0 < found[method].message - size < 200 for method, size in bare.items())
    assert "81.2 % fewer parameters" in "\n".join(lines())
    write_markdown(tmp_path / "costs.md")
    assert "| GenComm | message_extractor_m3 | 103,028 |" in (tmp_path / "costs.md").read_text()
