"""The reference of tools: its example loads, and its figures are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gateway.tools import validation
from gateway.tools.formats import FORMATS
from gateway.tools.parameters import compile_parameters
from gateway.tools.results import MAX_JSON_DEPTH
from gateway.tools.statement import scan

_PAGE = (Path(__file__).parents[2] / "docs/reference/tools.md").read_text()


def test_the_example_is_a_good_tool() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    (tool,) = yaml.safe_load(example)["tools"].values()
    parameters, mistakes = compile_parameters(tool["parameters"], None)
    assert mistakes == []
    assert parameters is not None
    for dialect in ("postgres", "sqlite"):
        found = scan(tool["statement"], dialect, parameters.types)
        assert found.mistakes == ()
        assert {item.name for item in found.placeholders} == set(parameters.types)


def test_the_figures() -> None:
    text = " ".join(_PAGE.split())
    figures: dict[str, Any] = {
        "One call may bring {} values": validation.MAX_VALUES,
        "nested {} deep": validation.MAX_DEPTH,
        "in numbers of {} digits": validation.MAX_DIGITS,
        "strings up to {} characters": validation.MAX_PATTERN_INPUT,
        "no `maxLength` gets one of {}": validation.MAX_PATTERN_INPUT,
        "nested deeper than {}": MAX_JSON_DEPTH,
    }
    assert [words for words, figure in figures.items() if words.format(figure) not in text] == []


def test_every_format_is_named() -> None:
    (sentence,) = re.findall(r"`format` is checked: (.*?)\. Another", " ".join(_PAGE.split()))
    assert set(re.sub(r"\(.*?\)", "", sentence).replace(" ", "").split(",")) == set(FORMATS)
