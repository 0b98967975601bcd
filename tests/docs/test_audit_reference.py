"""The reference of audit records names every event with its fields, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.telemetry.audit import events

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "reference/audit.md").read_text()


def _section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", _PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def _fields(section: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", section, re.MULTILINE))


def test_every_event_is_documented_with_its_fields() -> None:
    documented = set(re.findall(r"^## `([a-z.]+)`$", _PAGE, re.MULTILINE))
    assert documented == events.EVENTS.keys()
    for name, event in events.EVENTS.items():
        section = _section(f"`{name}`")
        assert _fields(section) == dict(event.fields), name
        assert event.meaning.casefold() in section.casefold()


def test_the_fields_of_every_record_are_documented() -> None:
    common: Mapping[str, str] = events.COMMON
    assert _fields(_section("Every record")) == dict(common)


def test_compliance_names_only_records_that_exist() -> None:
    page = (_DOCS / "explanation/compliance.md").read_text()
    named = set(re.findall(r"`([a-z]+\.[a-z]+)`", page))
    assert named <= events.EVENTS.keys() | {"audit.on_failure"}
    assert len(named) > 8
