"""References: what they become, and that nothing else is touched."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.references import MAX_FILE_BYTES, BadReference, expand, has_reference, is_whole

HERE = Path("/nowhere")
TEXT = st.text(alphabet=st.sampled_from("ab$:{}- \n'")) | st.text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${env:A}", "1"),
        ("x-${env:A}-${env:B}", "x-1-${env:A}"),
        ("${env:NONE:-}", ""),
        ("${env:NONE:-a:-b}", "a:-b"),
        ("${env:EMPTY:-default}", "default"),
        ("${env:EMPTY}", ""),
        ("${env:A:-default}", "1"),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$${env:A}"),
        ("$A {A} $$ $", "$A {A} $$ $"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, HERE, {"A": "1", "B": "${env:A}", "EMPTY": ""}) == expected


@pytest.mark.parametrize(
    "text", ["${", "${}", "${A}", "${env:}", "${env:1A}", "${env:A", "${ENV:A}", "${file:}", "a ${env:A-b}"]
)
def test_slips_are_not_taken_for_text(text: str) -> None:
    with pytest.raises(BadReference, match=r"expected \$\{env:NAME\}"):
        expand(text, HERE, {"A": "1"})


def test_unset_variable_says_what_to_set() -> None:
    with pytest.raises(BadReference, match="set the environment variable STAGE, or give a default"):
        expand("${env:STAGE}", HERE, {})


def test_variable_that_is_not_utf8() -> None:
    with pytest.raises(BadReference, match="expected text in UTF-8 in the environment variable A"):
        expand("${env:A}", HERE, {"A": os.fsdecode(b"\xff")})


@pytest.mark.parametrize(
    ("content", "text"), [(b"a\n", "a"), (b"a\r\n", "a"), (b"a", "a"), (b"a\n\n", "a\n"), (b"", "")]
)
def test_file_loses_one_line_break(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert expand("${file:secret}", tmp_path, {}) == text
    assert expand(f"<${{file:{tmp_path}/secret}}>", HERE, {}) == f"<{text}>"


def test_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(BadReference, match=re.escape(f"cannot read {tmp_path}/none: No such file or directory")):
        expand("${file:none}", tmp_path, {})


def test_file_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(BadReference, match="expected a regular file"):
            expand(f"${{file:{name}}}", tmp_path, {})


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(BadReference, match="expected text in UTF-8"):
        expand("${file:binary}", tmp_path, {})


def test_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(BadReference, match="expected at most 1 MiB"):
        expand("${file:large}", tmp_path, {})


def test_path_that_no_system_takes() -> None:
    with pytest.raises(BadReference, match="not a path"):
        expand("${file:a\0b}", HERE, {})


@given(TEXT)
def test_escaped_text_is_itself(text: str) -> None:
    # A dollar before the brace would join the escape, so such text is left out.
    escaped = text.replace("${", "$${")
    if "$$${" not in escaped:
        assert expand(escaped, HERE, {}) == text


@given(TEXT, TEXT, TEXT)
def test_values_are_put_in_verbatim_once(before: str, value: str, after: str) -> None:
    before, after = before.replace("$", ""), after.replace("$", "")
    assert expand(f"{before}${{env:A}}{after}", HERE, {"A": value}) == before + value + after


@given(TEXT)
def test_any_text_expands_or_says_why(text: str) -> None:
    try:
        expanded = expand(text, HERE, {})
    except BadReference:
        assert has_reference(text)
    else:
        assert has_reference(text) or expanded == text.replace("$${", "${")
    assert not is_whole(text) or has_reference(text)
