"""Verification of a log: where a record was changed, cut out, moved, doubled, or the end was cut off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import GENESIS, HASH, Keys, Link
from gateway.telemetry.audit.reading import Entry, Line, entry, lines

_MAX_PROBLEMS: Final = 1000
_SUM: Final = 16


@dataclass(slots=True)
class Track:
    """What is known of one chain.

    Attributes:
        first: its first record in these files.
        last: its last one, and where that is.
        keys: how it is hashed; None while that is not known.
        is_closed: whether it ended in order.
    """

    first: Link
    last: Link
    place: str
    keys: Keys | None
    is_closed: bool = False
    _sums: bytearray = field(default_factory=bytearray)
    _odd: dict[int, bytes] = field(default_factory=dict)

    def remember(self, link: Link) -> None:
        """Note the hash of a record; while nothing is missing, in few bytes."""
        digest = bytes.fromhex(link.hash)[:_SUM]
        if link.seq == self.first.seq + len(self._sums) // _SUM:
            self._sums += digest
        else:
            self._odd[link.seq] = digest

    def agrees(self, link: Link) -> bool | None:
        """Whether a record is the one that was seen here; None where none was."""
        start = (link.seq - self.first.seq) * _SUM
        seen = bytes(self._sums[start : start + _SUM]) if start >= 0 else b""
        seen = seen or self._odd.get(link.seq, b"")
        return bytes.fromhex(link.hash)[:_SUM] == seen if seen else None


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody's word that a chain had reached a point: a head, or the chain that came after."""

    link: Link
    place: str


@dataclass(slots=True)
class Report:
    """The outcome.

    Attributes:
        problems: what is wrong, each with its file and line.
        notes: what is worth knowing and no fault.
        records: how many records were looked at.
        chains: how many chains.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    chains: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def in_order(files: Iterable[Path]) -> list[Path]:
    """Files by the time of their first record; those without one come last.

    Raises:
        Unreadable: one cannot be read.
    """

    def begins(file: Path) -> tuple[bool, str]:
        found = next((found for line in lines(file) if (found := entry(line.content))), None)
        return found is None, str(found.fields["time"]) if found else ""

    return sorted(files, key=begins)


class Verifier:
    """Reads a log once, in order, and then asks the witnesses.

    Args:
        secrets: every chain key that was in use. Where there is one, a chain without a key is refused:
            anybody could have made it.
        is_partial: whether the files are only a part of the log, as a month's archive is.
    """

    def __init__(self, secrets: Sequence[str] = (), *, is_partial: bool = False) -> None:
        self._keys: Mapping[str, Keys] = {keys.identity: keys for keys in map(Keys, secrets or (None,))}
        self._is_partial = is_partial
        self._tracks: dict[str, Track] = {}
        self._witnesses: list[Witness] = []
        self._intents: dict[tuple[str, str, str], list[str]] = {}
        self._report = Report()

    def verify(self, files: Sequence[Path], witnesses: Sequence[Path] = ()) -> Report:
        """Check the files as one log.

        Args:
            files: in any order; `.gz` and `.xz` are read, too.
            witnesses: other places where heads or records of the same chains were kept.

        Raises:
            Unreadable: one cannot be read.
        """
        for file in in_order(files):
            self._read(file)
        for file in witnesses:
            self._hear(file)
        for identity, track in self._tracks.items():
            if not track.is_closed:
                self._note(f"chain {identity} has no end: its process runs, or did not stop in order")
        for (_, tool, correlation_id), places in self._intents.items():
            who = f"tool {tool}, correlation id {correlation_id}"
            self._report.notes += [f"{place}: no record tells how this write ended: {who}" for place in places]
        for witness in self._witnesses:
            self._confront(witness)
        self._report.chains = len(self._tracks)
        return self._report

    def _read(self, file: Path) -> None:
        torn: Line | None = None
        for line in lines(file):
            found = entry(line.content)
            if torn is not None:
                self._judge_torn(torn, found)
                torn = None
            if found is None or not line.is_whole:
                torn = line
            elif found.is_head:
                self._head(found, str(line))
            else:
                self._record(found, str(line))
        if torn is not None:
            self._problem(str(torn), "the last line is no whole record")

    def _judge_torn(self, torn: Line, after: Entry | None) -> None:
        """Half a record is what a crash leaves; the chain that begins next says how long it was."""
        is_told = after is not None and after.fields.get("torn_bytes") == len(torn.content)
        if is_told and torn.content:
            self._note(f"{torn}: a crash left {len(torn.content)} bytes of a record, as the next chain says")
        else:
            self._problem(str(torn), "is no record: changed or damaged")

    def _record(self, found: Entry, place: str) -> None:
        self._report.records += 1
        link, previous = found.link, str(found.fields["prev"])
        track = self._tracks.get(link.chain)
        if track is None:
            track = self._begin(found, place)
        else:
            self._continue(track, link, previous, place)
        self._check_hash(found, track, place)
        track.remember(link)
        if link.seq >= track.last.seq:
            track.last, track.place = link, place
        track.is_closed = track.is_closed or found.fields["event"] == events.CHAIN_CLOSE
        self._pair(found, place)

    def _pair(self, found: Entry, place: str) -> None:
        """An intent waits for the outcome of its write."""
        key = (found.link.chain, str(found.fields.get("tool")), str(found.fields.get("correlation_id")))
        if found.fields["event"] == events.TOOL_INTENT:
            self._intents.setdefault(key, []).append(place)
        elif found.fields["event"] == events.TOOL_CALL and key in self._intents:
            self._intents[key].pop(0)
            if not self._intents[key]:
                del self._intents[key]

    def _begin(self, found: Entry, place: str) -> Track:
        link, keys = found.link, None
        if found.fields["event"] == events.CHAIN_OPEN:
            keys = self._keys.get(str(found.fields.get("key")))
            if keys is None:
                name = found.fields.get("key")
                how = f"signed with key {name}, which was not given" if name else "not signed, though a key was given"
                self._problem(place, f"chain {link.chain} is {how}")
            self._remember_previous(found.fields.get("previous"), place)
        else:
            keys = next((each for each in self._keys.values() if each.digest(found.signed) == link.hash), None)
            if keys is None:
                self._problem(place, f"chain {link.chain} begins in its middle, and no key fits: changed, or not given")
        if link.seq != 1 or found.fields["prev"] != GENESIS:
            missing = f"records 1 to {link.seq - 1} of chain {link.chain} are not in these files"
            if self._is_partial and link.seq > 1:
                self._note(f"{place}: {missing}")
            else:
                self._problem(place, missing if link.seq > 1 else f"chain {link.chain} does not begin with zeros")
        track = Track(link, link, place, keys)
        self._tracks[link.chain] = track
        return track

    def _continue(self, track: Track, link: Link, previous: str, place: str) -> None:
        expected = track.last.seq + 1
        agrees = track.agrees(link)
        if agrees is not None:
            kind = "is here twice" if agrees else "is here twice, with different contents"
            self._problem(place, f"record {link.seq} of chain {link.chain} {kind}")
        elif link.seq < expected:
            self._problem(place, f"record {link.seq} of chain {link.chain} is out of order, after {track.last.seq}")
        elif link.seq > expected:
            gap = f"{expected}" if link.seq == expected + 1 else f"{expected} to {link.seq - 1}"
            self._problem(place, f"before record {link.seq} of chain {link.chain} there is a gap: {gap} missing")
        elif previous != track.last.hash:
            self._problem(place, f"record {link.seq} of chain {link.chain} does not follow the one at {track.place}")

    def _check_hash(self, found: Entry, track: Track, place: str) -> None:
        if track.keys is not None and track.keys.digest(found.signed) != found.hash:
            what = f"record {found.link.seq} of chain {found.link.chain}"
            self._problem(place, f"{what} was changed: its hash is another")

    def _head(self, found: Entry, place: str) -> None:
        track = self._tracks.get(found.link.chain)
        known = [track.keys] if track is not None and track.keys is not None else list(self._keys.values())
        if any(keys.digest(found.signed) == found.hash for keys in known):
            self._witnesses.append(Witness(found.link, place))
        else:
            self._problem(place, f"a head of chain {found.link.chain} is not signed by a known key")

    def _hear(self, file: Path) -> None:
        """Take the records and heads of another place as witnesses, each by its own hash."""
        for line in lines(file):
            found = entry(line.content)
            if found is None:
                continue
            if found.is_head:
                self._head(found, str(line))
            elif any(keys.digest(found.signed) == found.hash for keys in self._keys.values()):
                self._witnesses.append(Witness(found.link, str(line)))

    def _remember_previous(self, previous: Any, place: str) -> None:
        match previous:
            case {"chain": str(chain), "seq": int(seq), "hash": str(digest)} if HASH.fullmatch(digest):
                self._witnesses.append(Witness(Link(chain, seq, digest), place))
            case None:
                pass
            case _:
                self._problem(place, "does not say rightly which chain came before")

    def _confront(self, witness: Witness) -> None:
        link, track = witness.link, self._tracks.get(witness.link.chain)
        if track is None:
            text = f"chain {link.chain}, known from {witness.place}, is not in these files"
            self._note(text) if self._is_partial else self._problem(witness.place, text)
        elif link.seq > track.last.seq:
            cut = f"the end of chain {link.chain} was cut off: it reached {link.seq}, says {witness.place}"
            self._problem(track.place, f"{cut}, and ends here with {track.last.seq}")
        elif track.agrees(link) is False:
            what = f"record {link.seq} of chain {link.chain}"
            self._problem(track.place, f"{what} is not the one that {witness.place} saw")

    def _problem(self, place: str, text: str) -> None:
        if len(self._report.problems) < _MAX_PROBLEMS:
            self._report.problems.append(f"{place}: {text}")

    def _note(self, text: str) -> None:
        self._report.notes.append(text)
