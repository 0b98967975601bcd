"""The occasions to reload: files, links, secrets and a signal; and what becomes of files that are wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.server import reload as module
from gateway.server.app import Gateway, open_gateway
from gateway.server.events import SETTLE, Kind
from gateway.server.reload import Reloader
from gateway.telemetry.audit import events
from gateway.tools.loading import load_with_tools
from tests.database.support import until

TEXT = """
server: {host: 127.0.0.1, port: 0, public_url: "${file:secret/url}"}
admin: {port: 0}
auth: {mode: none}
sources:
  shop: {engine: sqlite, path: ./shop.sqlite}
tools:
  note: {description: A note., source: shop, statement: select 1 as note}
"""
OTHER = TEXT.replace("select 1", "select 2")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """As the kubelet writes a ConfigMap: a new folder, then one link that changes at once."""
    (folder / f"..{time.monotonic_ns()}").mkdir()
    newest = max(folder.glob("..[0-9]*"), key=lambda each: int(each.name[2:]))
    for name, text in files.items():
        (newest / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(newest.name)
    (folder / "..new").rename(folder / "..data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config", "config/secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "config/shop.sqlite").touch()
    write(tmp_path / "config", {"gateway.yaml": TEXT})
    write(tmp_path / "config/secret", {"url": "http://127.0.0.1:1"})
    return tmp_path / "config"


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[tuple[Gateway, Reloader]]:
    reloader = Reloader(path, lambda followed: load_with_tools(path, followed=followed), 0.05)
    async with open_gateway(reloader.read_first()) as gateway, reloader.watching(gateway.live):
        await gateway.until_ready()
        yield gateway, reloader


@pytest.fixture
async def running(folder: Path) -> AsyncIterator[tuple[Gateway, Reloader]]:
    async with watching(folder) as both:
        yield both


def statement(gateway: Gateway) -> str:
    return next(iter(gateway.snapshot.catalog)).statement.text


async def test_the_link_of_a_config_map_changes(running: tuple[Gateway, Reloader], folder: Path) -> None:
    gateway, reloader = running
    first = reloader.reloads.hash
    write(folder, {"gateway.yaml": OTHER})
    await until(lambda: reloader.reloads.succeeded == 1)
    assert statement(gateway) == "select 2 as note"
    assert reloader.reloads.hash != first
    assert reloader.reloads.at > 0
    write(folder, {"gateway.yaml": TEXT})
    await until(lambda: reloader.reloads.succeeded == 2)
    assert reloader.reloads.hash == first


async def test_files_come_and_go(running: tuple[Gateway, Reloader], folder: Path) -> None:
    gateway, reloader = running
    more = folder / "more.yaml"
    more.write_text("tools: {other: {description: Another., source: shop, statement: select 3 as note}}")
    await until(lambda: reloader.reloads.succeeded == 1)
    assert len(gateway.snapshot.catalog) == 2
    more.unlink()
    await until(lambda: reloader.reloads.succeeded == 2)
    assert len(gateway.snapshot.catalog) == 1


async def test_what_a_reference_names_changes(running: tuple[Gateway, Reloader], folder: Path) -> None:
    gateway, reloader = running
    write(folder / "secret", {"url": "http://127.0.0.1:2"})
    await until(lambda: reloader.reloads.succeeded == 1)
    assert gateway.snapshot.settings.server.public_url == "http://127.0.0.1:2"


async def test_a_touched_file_is_no_change(running: tuple[Gateway, Reloader], folder: Path) -> None:
    gateway, reloader = running
    before = gateway.snapshot
    write(folder, {"gateway.yaml": TEXT})
    os.utime(folder / "gateway.yaml")
    write(folder / "secret", {"url": "http://127.0.0.1:3"})  # the occasion that follows is the first one
    await until(lambda: gateway.snapshot is not before)
    assert reloader.reloads.succeeded == 1


async def test_a_wrong_file_is_told_once_with_all_problems(
    running: tuple[Gateway, Reloader], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, reloader = running
    before, first = gateway.snapshot, reloader.reloads.hash
    wrong = TEXT.replace("source: shop", "source: ship").replace("mode: none", "mode: nun")
    with caplog.at_level(logging.INFO, "gateway.server"):
        write(folder, {"gateway.yaml": wrong.replace("secret/url", "secret/absent")})
        await until(lambda: reloader.reloads.failed == 1)
    (told,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    for part in ("gateway.yaml:2", "server.public_url", "gateway.yaml:4", "auth.mode", "gateway.yaml:8", "tools.note"):
        assert part in told.getMessage()
    assert "\n" not in told.getMessage()
    assert gateway.snapshot is before
    assert reloader.reloads.hash == first
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.admin_url}/metrics") as page:
        metrics = (await page.text()).splitlines()
    assert 'gateway_configuration_reloads_total{result="failed"} 1.0' in metrics
    assert 'gateway_configuration_reloads_total{result="ok"} 0.0' in metrics
    # The file that was missing is watched although nothing in force names it.
    write(folder, {"gateway.yaml": TEXT.replace("secret/url", "secret/absent")})
    await until(lambda: reloader.reloads.failed == 2)
    write(folder / "secret", {"absent": "http://127.0.0.1:4"})
    await until(lambda: reloader.reloads.succeeded == 1)
    assert gateway.snapshot.settings.server.public_url == "http://127.0.0.1:4"


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(b"\xff\x00{")], ids=["no file", "no text"]
)
async def test_no_file_and_no_text_are_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "gateway.yaml"
    (tmp_path / "shop.sqlite").touch()
    path.write_text(TEXT.replace("${file:secret/url}", "http://127.0.0.1:1"))
    async with watching(path) as (gateway, reloader):
        before = gateway.snapshot
        spoil(path)
        await until(lambda: reloader.reloads.failed == 1)
        assert gateway.snapshot is before


async def test_asked_for_without_a_change(running: tuple[Gateway, Reloader]) -> None:
    gateway, reloader = running
    before = gateway.snapshot
    reloader.ask()
    await until(lambda: reloader.reloads.succeeded == 1)
    assert gateway.snapshot is before


async def test_what_was_not_ready_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", 0.1)
    monkeypatch.setattr("gateway.server.live.SETTLING", 0.2)
    path, database = tmp_path / "gateway.yaml", tmp_path / "there.sqlite"
    start = TEXT.replace("${file:secret/url}", "http://127.0.0.1:1")
    there = tmp_path / "first.sqlite"
    there.touch()
    path.write_text(start.replace("./shop.sqlite", str(there)))
    async with watching(path) as (gateway, reloader):
        path.write_text(start.replace("./shop.sqlite}", f"{database}, required: true}}"))
        await until(lambda: reloader.reloads.failed >= 2)
        assert gateway.snapshot.is_ready
        assert "shop" in caplog.text
        database.touch()
        await until(lambda: reloader.reloads.succeeded == 1)
        assert gateway.snapshot.is_ready
        assert gateway.snapshot.sources["shop"].required


async def test_listeners_are_told_of_other_tools_alone(folder: Path) -> None:
    reloader = Reloader(folder, lambda followed: load_with_tools(folder, followed=followed), 60)
    async with open_gateway(reloader.read_first()) as gateway:
        await gateway.until_ready()
        await until(lambda: all(source.is_settled for source in gateway.snapshot.sources.values()))
        await asyncio.sleep(2 * SETTLE)
        listener = gateway.announcements.join((Kind.TOOLS,))
        for text, is_told in (
            (TEXT.replace("admin:", "limits: {burst: 7}\nadmin:"), False),
            (OTHER, True),
            (OTHER.replace("sqlite,", "sqlite, enabled: false,"), True),
        ):
            write(folder, {"gateway.yaml": text})
            assert await reloader.reload(gateway.live, "test")
            assert await listener.take(5 if is_told else 3 * SETTLE) == (Kind.TOOLS if is_told else None)
            assert await listener.take(2 * SETTLE) is None
        assert not len(gateway.snapshot.catalog)
        gateway.announcements.leave(listener)


async def test_leaving_amid_a_reload_closes_everything(folder: Path) -> None:
    threads = asyncio.all_tasks()
    for pause in (0.0, 0.01, 0.05):
        async with watching(folder) as (_, reloader):
            write(folder, {"gateway.yaml": OTHER if pause else TEXT})
            reloader.ask()
            await asyncio.sleep(pause)
    await until(lambda: asyncio.all_tasks() == threads)


async def test_the_audit_tells_what_changed_and_what_was_refused(folder: Path, tmp_path: Path) -> None:
    audited = TEXT + "audit: {sinks: [{file: {path: ../audit.jsonl}}]}\n"
    write(folder, {"gateway.yaml": audited})
    async with watching(folder) as (_, reloader):
        start = reloader.reloads.hash
        write(folder, {"gateway.yaml": audited.replace("select 1", "select 2")})
        await until(lambda: reloader.reloads.succeeded == 1)
        write(folder, {"gateway.yaml": audited.replace("select 1", "delete from")})
        await until(lambda: reloader.reloads.failed == 1)
        then = reloader.reloads.hash
    records = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    (changed,) = [each for each in records if each["event"] == "configuration.changed"]
    assert (changed["old"], changed["new"]) == (start, then)
    assert changed["changed"].keys() == {"tools.note.statement"}
    (refused,) = [each for each in records if each["event"] == "configuration.refused"]
    assert (refused["configuration"], refused["problems"]) == (then, ["tools.note.statement"])
    assert refused["trigger"] == changed["trigger"] == "a file changed"
    assert refused.keys() - events.COMMON == events.EVENTS["configuration.refused"].fields.keys()
