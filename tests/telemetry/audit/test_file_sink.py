"""The file: whole lines or none, whatever the disk, a crash or another process does."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Keys
from gateway.telemetry.audit.file_sink import FileRefused, FileSink
from gateway.telemetry.audit.reading import lines
from gateway.telemetry.audit.recorder import Audit, AuditUnavailable, Outlet
from gateway.telemetry.audit.verify import Report, Verifier
from tests.telemetry.audit.support import SECRET, chain_lines, records


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def verify(folder: Path) -> Report:
    return Verifier([SECRET]).verify(sorted(folder.glob("audit*.jsonl")))


async def record(path: Path, count: int, **options: object) -> None:
    """One process that records some calls."""
    sink = FileSink(path, **options)  # type: ignore[arg-type]
    audit = Audit(Keys(SECRET), [Outlet(sink)])
    async with audit.running(sink.previous):
        for number in range(count):
            await audit.write(events.TOOL_CALL, {"rows": number})


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
async def test_chains_of_several_runs_are_tied_to_each_other(tmp_path: Path, fsync: str) -> None:
    for count in (3, 0, 5):
        await record(tmp_path / "audit.jsonl", count, fsync=fsync)
    report = verify(tmp_path)
    assert report.is_whole
    assert (report.chains, report.notes) == (3, [])
    opened = [each for each in records(tmp_path / "audit.jsonl") if each["event"] == events.CHAIN_OPEN]
    assert opened[0]["previous"] is None
    assert [each["previous"]["chain"] for each in opened[1:]] == [each["chain"] for each in opened[:-1]]


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    await record(tmp_path / "audit.jsonl", 1, rotate=1)
    for file in files_of(tmp_path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe", "writable", "nowhere"])
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "audit.jsonl", tmp_path / "other"
    match kind:
        case "link":
            other.touch()
            path.symlink_to(other)
        case "dangling":
            path.symlink_to(other)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "writable":
            path.touch()
            path.chmod(0o622)
        case "nowhere":
            path = tmp_path / "missing" / "audit.jsonl"
    with pytest.raises(FileRefused, match=r"audit\.jsonl"):
        FileSink(path)
    assert not other.exists() or other.read_bytes() == b""


async def test_it_is_rotated_by_size_and_the_chain_goes_on(tmp_path: Path) -> None:
    await record(tmp_path / "audit.jsonl", 60, rotate=4096)
    await record(tmp_path / "audit.jsonl", 60, rotate=4096)
    files = files_of(tmp_path)
    assert len(files) > 5
    assert all(file.stat().st_size <= 4096 for file in files)
    report = verify(tmp_path)
    assert report.is_whole
    assert (report.chains, report.notes) == (2, [])


async def test_old_files_go_only_when_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "audit-notes.jsonl").write_text("not ours\n")
    await record(tmp_path / "audit.jsonl", 60, rotate=4096, keep=2)
    assert len(files_of(tmp_path)) == 2 + 2
    assert (tmp_path / "audit-notes.jsonl").exists()


async def test_a_chain_is_tied_to_a_file_that_was_just_rotated(tmp_path: Path) -> None:
    await record(tmp_path / "audit.jsonl", 3)
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit-20260101T000000.000000Z.jsonl")
    await record(tmp_path / "audit.jsonl", 3)
    report = verify(tmp_path)
    assert report.is_whole
    assert records(tmp_path / "audit.jsonl")[0]["previous"] is not None


@pytest.mark.parametrize("length", [1, 40, 200])
async def test_what_a_crash_tore_stays_and_is_told(tmp_path: Path, length: int) -> None:
    torn = b"".join(chain_lines(3))
    end = torn.rindex(b"\n", 0, len(torn) - 1) + 1
    (tmp_path / "audit.jsonl").write_bytes(torn[: end + length])
    (tmp_path / "audit.jsonl").chmod(0o600)
    await record(tmp_path / "audit.jsonl", 2)
    report = verify(tmp_path)
    assert report.is_whole, report.problems
    assert any(f"a crash left {length} bytes" in note for note in report.notes)


async def test_several_processes_share_a_file_through_rotations(tmp_path: Path) -> None:
    await asyncio.gather(*(record(tmp_path / "audit.jsonl", 40, rotate=8192) for _ in range(4)))
    report = verify(tmp_path)
    assert report.is_whole, report.problems
    assert report.chains == 4
    assert report.records == 4 * 42


async def test_a_full_disk_refuses_without_half_a_line_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(32 << 10))
    path = small_disk / "audit.jsonl"
    sink = FileSink(path)
    audit = Audit(Keys(SECRET), [Outlet(sink)])
    written = 0
    async with audit.running(sink.previous):
        while not audit.troubles:
            with suppress(AuditUnavailable):
                await audit.write(events.TOOL_CALL, {"rows": written, "ballast": "x" * 900})
                written += 1
        assert written > 5
        assert audit.troubles == {f"file {path}": "No space left on device"}
        assert all(line.is_whole for line in lines(path))
        with pytest.raises(AuditUnavailable):
            audit.require()
        ballast.unlink()
        async with asyncio.timeout(10):
            while audit.troubles:  # noqa: ASYNC110 - the sink's own pace
                await asyncio.sleep(0.02)
        await audit.write(events.TOOL_CALL, {"rows": -1})
    report = verify(small_disk)
    assert report.is_whole, report.problems
    told = [each["event"] for each in records(path)]
    assert told.count(events.TOOL_CALL) == written + 2, "the refused one, too, was written in the end"
    assert events.SINK_FAILED in told
    assert events.SINK_RECOVERED in told


async def test_a_file_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    audit = Audit(Keys(SECRET), [Outlet(sink)])
    async with audit.running(sink.previous):
        await audit.write(events.TOOL_CALL, {"rows": 1})
        path.unlink()
        await audit.write(events.TOOL_CALL, {"rows": 2})
    assert [each.get("rows") for each in records(path)] == [2, None]
    assert "records 1 to 2" in verify(tmp_path).problems[0]


_CRASHER = """
import asyncio, os, sys
from pathlib import Path
from tests.telemetry.audit.test_file_sink import *
async def main():
    sink = FileSink(Path(sys.argv[1]), fsync="always", rotate=16384)
    audit = Audit(Keys(SECRET), [Outlet(sink)])
    async with audit.running(sink.previous):
        for number in range(10**9):
            await audit.write(events.TOOL_CALL, {"rows": number})
            print(number, flush=True)
asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    acknowledged = []
    for _ in range(2):
        command = [sys.executable, "-c", _CRASHER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
            assert process.stdout is not None
            seen = [int(process.stdout.readline()) for _ in range(100)]
            process.kill()
        acknowledged.append(seen[-1])
    report = verify(tmp_path)
    assert report.is_whole, report.problems
    assert report.chains == 2
    told = [each["rows"] for file in sorted(tmp_path.iterdir()) for each in records(file) if "rows" in each]
    assert all(told.count(number) == 2 for number in range(min(acknowledged) + 1))
