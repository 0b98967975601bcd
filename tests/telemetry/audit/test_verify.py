"""Tampering: whatever is done to a log, verification says what and where."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import LINE, Chain, Keys, Previous
from gateway.telemetry.audit.reading import Unreadable, last_link
from gateway.telemetry.audit.verify import Report, Verifier
from tests.telemetry.audit.support import SECRET, chain_lines, head_of, two_chains, write


def verify(path: Path, *, secrets: tuple[str, ...] = (SECRET,), witness: Path | None = None) -> Report:
    return Verifier(secrets).verify([path], [witness] if witness else [])


def check(lines: list[bytes], witness: list[bytes] | None = None, secrets: tuple[str, ...] = (SECRET,)) -> list[str]:
    """The problems of a log, without the folder's name."""
    with tempfile.TemporaryDirectory() as folder:
        other = write(Path(folder) / "heads", witness) if witness else None
        report = verify(write(Path(folder) / "log", lines), secrets=secrets, witness=other)
        return [problem.removeprefix(f"{folder}/") for problem in report.problems]


@pytest.mark.parametrize("secret", [SECRET, None])
def test_what_was_written_is_whole(secret: str | None) -> None:
    lines = two_chains(secret=secret)
    assert check([*lines, head_of(lines[-1], secret)], secrets=(secret,) if secret else ()) == []


@given(data=st.data())
def test_a_changed_byte_is_found_where_it_is(data: st.DataObject) -> None:
    lines = two_chains()
    index = data.draw(st.integers(0, len(lines) - 1))
    line = bytearray(lines[index])
    position = data.draw(st.integers(0, len(line) - 2))
    line[position] = data.draw(st.integers(0, 255).filter(lambda each: each not in (line[position], 10)))
    problems = check([*lines[:index], bytes(line), *lines[index + 1 :]])
    assert any(problem.startswith(f"log:{index + 1}:") for problem in problems), problems


@given(st.integers(1, 4), st.integers(1, 3))
def test_a_gap_is_named_with_its_numbers(first: int, length: int) -> None:
    lines = chain_lines(8)
    problems = check(lines[:first] + lines[first + length :])
    missing = f"{first + 1}" if length == 1 else f"{first + 1} to {first + length}"
    assert len(problems) == 1
    assert problems[0].startswith(f"log:{first + 1}:")
    assert problems[0].endswith(f"there is a gap: {missing} missing")


@given(st.data())
def test_moved_records_are_found(data: st.DataObject) -> None:
    lines = chain_lines(8)
    order = data.draw(st.permutations(range(len(lines))).filter(lambda each: each != sorted(each)))
    assert check([lines[index] for index in order])


def test_two_that_changed_places_are_named() -> None:
    lines = chain_lines(4)
    lines[2], lines[3] = lines[3], lines[2]
    problems = check(lines)
    assert problems[0].endswith("there is a gap: 3 missing")
    assert "is out of order, after 4" in problems[1]


def test_a_doubled_record_is_found() -> None:
    lines = chain_lines(4)
    assert "record 3 of chain" in check([*lines[:3], lines[2], *lines[3:]])[0]
    assert "is here twice" in check([*lines[:3], lines[2], *lines[3:]])[0]


def test_a_cut_end_is_shown_by_a_head_kept_elsewhere() -> None:
    lines = chain_lines(6)
    problems = check(lines[:-3], witness=[head_of(lines[-2])])
    assert len(problems) == 1
    assert problems[0].startswith("log:5:")
    assert "the end of chain" in problems[0]
    assert "it reached 7" in problems[0]
    assert problems[0].endswith("ends here with 5")


def test_a_cut_end_is_shown_by_the_next_chain() -> None:
    first, both = 7, two_chains()
    problems = check(both[: first - 2] + both[first:])
    assert len(problems) == 1
    assert "was cut off: it reached 7" in problems[0]


def test_a_chain_that_is_gone_is_missed_by_the_next() -> None:
    problems = check(two_chains()[7:])
    assert "is not in these files" in problems[0]


def test_a_part_may_begin_in_the_middle_but_not_lose_what_is_inside(tmp_path: Path) -> None:
    lines = two_chains()
    part = Verifier([SECRET], is_partial=True).verify([write(tmp_path / "part", lines[3:])])
    assert part.is_whole
    assert any("records 1 to 3" in note for note in part.notes)
    assert not Verifier([SECRET]).verify([tmp_path / "part"]).is_whole
    cut = Verifier([SECRET], is_partial=True).verify([write(tmp_path / "cut", lines[3:5] + lines[6:])])
    assert not cut.is_whole


def test_a_record_remade_without_the_key_does_not_pass() -> None:
    """Who can write the file but has no key recomputes the chain from a change on; plain hashes let that pass."""
    lines = chain_lines(4)
    forged = _remade(lines, Keys("another key, of more than 32 characters"))
    assert any("was changed" in problem for problem in check(forged))
    assert any("was changed" in problem for problem in check(_remade(lines, Keys(None))))


def test_a_chain_without_a_key_does_not_pass_for_one_with() -> None:
    problems = check(two_chains(secret=None))
    assert "is not signed, though a key was given" in problems[0]


def test_a_plain_chain_that_was_remade_is_shown_by_a_head_kept_elsewhere() -> None:
    lines = chain_lines(4, secret=None)
    forged = _remade(lines, Keys(None))
    assert check(forged, secrets=()) == []
    problems = check(forged, witness=[head_of(lines[-1], None)], secrets=())
    assert "record 6 of chain" in problems[0]
    assert "is not the one that" in problems[0]


def _remade(lines: list[bytes], keys: Keys) -> list[bytes]:
    """The same log with the third record changed, and every hash after it made anew."""
    made, previous = list(lines[:2]), b""
    for line in lines[2:]:
        match = LINE.fullmatch(line.rstrip())
        assert match is not None
        signed = match[1].replace(b'"rows":1', b'"rows":999')
        if previous:
            signed = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"%b"' % previous, signed)
        previous = keys.digest(signed).encode()
        made.append(b'%b,"hash":"%b"}\n' % (signed, previous))
    return made


def test_a_forged_head_is_refused() -> None:
    lines = chain_lines(3)
    assert "is not signed by a known key" in check(lines, witness=[head_of(lines[2], None)])[0]


def test_a_chain_of_a_key_that_was_not_given_is_a_problem() -> None:
    other = "f" * 32
    assert "which was not given" in check(chain_lines(2), secrets=(other,))[0]
    assert check(chain_lines(2), secrets=(other, SECRET)) == []


def test_half_a_record_is_forgiven_where_the_next_chain_says_so() -> None:
    lines = chain_lines(3)[:-1]
    torn = lines[-1][:40]
    previous = Previous(last_link(lines[-2].rstrip()), len(torn))
    assert check([*lines[:-1], torn + b"\n", *chain_lines(1, previous=previous)]) == []
    assert check([*lines[:-1], torn[:-1] + b"\n", *chain_lines(1, previous=previous)])
    assert "no whole record" in check([*lines[:-1], torn])[0]


def test_strange_lines_are_problems_and_never_crash() -> None:
    for line in (b"\n", b"{}\n", b"\xff\xfe\n", b"[" * 5000 + b"\n", b'{"chain":1,"hash":"' + b"0" * 64 + b'"}\n'):
        assert check([line, *chain_lines(1)])[0].startswith("log:1: is no record")


def test_a_record_that_nests_too_deep_is_none() -> None:
    [line] = chain_lines(1)[:1]
    for levels in (65, 900, 5000):
        deep = line.replace(b"{", b'{"arguments":' + b"[" * levels + b"]" * levels + b",", 1)
        assert check([deep, *chain_lines(1)])[0].startswith("log:1: is no record")


@given(st.lists(st.binary(max_size=80)), st.integers(0, 9))
def test_garbage_anywhere_never_crashes(garbage: list[bytes], place: int) -> None:
    lines = chain_lines(8)
    mixed = [*lines[:place], *(each + b"\n" for each in garbage), *lines[place:]]
    assert bool(check(mixed)) == bool(garbage)


def test_several_files_and_archives_are_one_log_in_any_order(tmp_path: Path) -> None:
    lines = two_chains(20, 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[30:])))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(b"".join(lines[10:30])))
    write(tmp_path / "c.jsonl", lines[:10])
    report = Verifier([SECRET]).verify(sorted(tmp_path.iterdir()))
    assert report.is_whole
    assert (report.records, report.chains) == (len(lines), 2)
    (tmp_path / "b.jsonl.xz").write_bytes(b"no archive")
    with pytest.raises(Unreadable):
        Verifier([SECRET]).verify(sorted(tmp_path.iterdir()))


def test_another_full_copy_is_a_witness(tmp_path: Path) -> None:
    lines = chain_lines(6)
    copy = write(tmp_path / "copy", [b"a line of something else\n", *lines])
    assert verify(write(tmp_path / "log", lines), witness=copy).is_whole
    assert "cut off" in verify(write(tmp_path / "log", lines[:5]), witness=copy).problems[0]


def test_a_record_is_plain_json_with_its_hash_last() -> None:
    record = json.loads(chain_lines(1)[1])
    assert list(record) == ["chain", "seq", "prev", "time", "event", "tool", "rows", "hash"]


def test_a_write_without_an_outcome_is_named(tmp_path: Path) -> None:
    """A process was killed between the intent and the outcome of one of its writes."""
    chain = Chain(Keys(SECRET))
    lines = [chain.append(events.CHAIN_OPEN, {"key": Keys(SECRET).identity, "previous": None, "torn_bytes": 0})]
    for event, identifier in (
        *((events.TOOL_INTENT, "a"), (events.TOOL_INTENT, "b"), (events.TOOL_INTENT, "a"), (events.TOOL_CALL, "a")),
        *((events.TOOL_CALL, "b"), (events.TOOL_CALL, "read")),
    ):
        lines.append(chain.append(event, {"tool": "rename", "correlation_id": identifier}))
    report = verify(write(tmp_path / "log", lines))
    assert report.is_whole
    (note,) = [each for each in report.notes if "how this write ended" in each]
    assert note.startswith(f"{tmp_path}/log:4: ")
    assert note.endswith("tool rename, correlation id a")
