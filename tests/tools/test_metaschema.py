"""What the metaschema finds, and that it is asked once for each schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.tools import metaschema


def _schema(**more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"id": {"type": "integer", **more}}}


def test_a_mistake_is_found_each_time() -> None:
    for _ in range(2):
        ((path, text),) = metaschema.mistakes(_schema(minimum="low"))
        assert path == ("properties", "id", "minimum")
        assert "'low' is not of type 'number'" in text


def test_a_long_value_is_cut() -> None:
    ((_, text),) = metaschema.mistakes(_schema(minimum="x" * 1000))
    assert len(text) == 200
    assert text.endswith("...")


def test_a_sound_schema_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Any] = []

    def judge(_: object, schema: dict[str, Any]) -> Iterator[Any]:
        judged.append(schema["properties"]["id"]["minimum"])
        return iter(())

    monkeypatch.setattr(metaschema, "_sound", set())
    monkeypatch.setattr(Draft202012Validator, "iter_errors", judge)
    for _ in range(2):
        for minimum in (1, 1.0, True, "1", 2):  # what looks alike in Python is another schema
            assert metaschema.mistakes(_schema(minimum=minimum)) == []
    assert list(map(repr, judged)) == ["1", "1.0", "True", "'1'", "2"]


def test_no_more_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaschema, "_sound", set())
    monkeypatch.setattr(metaschema, "MOST_REMEMBERED", 2)
    for minimum in range(5):
        assert metaschema.mistakes(_schema(minimum=minimum)) == []
        assert len(metaschema._sound) <= 2
