"""Arguments about the channel: what section they stand for, in every inference tool."""

import pytest

from opencood.experiments.results import channel_note
from opencood.tools import inference, inference_heter_in_order
from opencood.tools.inference import parse


@pytest.mark.parametrize("tool", [inference, inference_heter_in_order])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", None),
        ("--drop 0.1", {"drop": 0.1}),
        ("--drop 0.1 --drop_agents 0.2", {"drop": 0.1}),
        ("--bit_error 1e-5 --precision int8 --budget 20", {"bit_error": 1e-5, "precision": "int8", "budget": 20.0}),
    ],
)
def test_sections(tool, arguments, expected):
    assert parse(tool.parser(), ["--model_dir", "run", *arguments.split()])["channel"] == expected


@pytest.mark.parametrize("wrong", ["--drop 1.5", "--bit_error 0.6", "--precision int4", "--budget x"])
def test_wrong_values_end_with_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(inference.parser(), ["--model_dir", "run", *wrong.split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_names_of_files_tell_the_channel():
    assert channel_note(None) == ""
    assert channel_note({"drop": 0.1, "precision": "int8", "budget": 20.0}) == "_drop_0.1_precision_int8_budget_20"
