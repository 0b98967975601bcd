"""What pip-audit says is passed on, and what it did not find out is never taken for good news."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.checks.advisories import Audit, ask, verdict
from tests.servers.certificates import Authority

GOOD: Final[Mapping[str, Any]] = {"vulnerabilities": []}
BAD: Final[Mapping[str, Any]] = {
    "vulnerabilities": [
        {"id": "PYSEC-2099-1", "aliases": [], "details": "a hole", "fixed_in": ["1.1"], "withdrawn": None}
    ]
}


class Index:
    """Stands where pypi.org would be: a proxy that pip-audit is told to use, and answers by itself."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        pair = authority.issue("pypi.org")
        self.authority = authority.path
        self.knows: dict[str, Mapping[str, Any]] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One CONNECT, then its requests over TLS until the client goes away."""
        try:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT pypi.org:443 ")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.drain()
            await writer.start_tls(self._context)
            while head := await reader.readuntil(b"\r\n\r\n"):
                name = head.split(b"/")[2].decode()
                body = json.dumps(self.knows.get(name, {"message": "Not Found"})).encode()
                status = "200 OK" if name in self.knows else "404 Not Found"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Index]:
    index = Index(tmp_path / "tls")
    async with await asyncio.start_server(index.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(index.authority))
        yield index


async def judged(folder: Path) -> Audit:
    lock = folder / "lock"
    lock.write_text("".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in ("alpha", "beta")))
    return await asyncio.to_thread(ask, "pypi", lock, "--cache-dir", str(folder / "cache"))


def told(audits: Sequence[Audit]) -> tuple[int, int, str]:
    """The exit status, the one where an audit is required, and the text."""
    (usual, text), (strict, _) = (verdict(audits, is_required=required) for required in (False, True))
    return usual, strict, text


async def test_packages_without_vulnerabilities_are_good(index: Index, tmp_path: Path) -> None:
    index.knows = {"alpha": GOOD, "beta": GOOD}
    audit = await judged(tmp_path)
    assert audit.is_whole
    assert told([audit]) == (0, 0, "2 pinned packages, none with a known vulnerability (pypi)")


async def test_a_vulnerability_fails_whatever_else_is_unknown(index: Index, tmp_path: Path) -> None:
    index.knows = {"beta": BAD}
    usual, strict, text = told([await judged(tmp_path), Audit("osv", trouble="not reached")])
    assert (usual, strict) == (1, 1)
    assert "beta 1.0: PYSEC-2099-1, mended in 1.1" in text


async def test_what_a_service_does_not_know_was_not_judged(index: Index, tmp_path: Path) -> None:
    index.knows = {"alpha": GOOD}
    usual, strict, text = told([await judged(tmp_path)])
    assert (usual, strict) == (0, 1)
    assert text.startswith("NOT AUDITED")
    assert "pypi: does not know beta" in text


async def test_a_mirror_that_knows_nothing_is_no_good_news(index: Index, tmp_path: Path) -> None:
    usual, strict, text = told([await judged(tmp_path)])
    assert (usual, strict) == (0, 1)
    assert text.startswith("NOT AUDITED")
    assert "knows none of 2 packages" in text


async def test_a_service_that_cannot_be_reached_is_no_good_news(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    audit = await judged(tmp_path)
    assert audit.trouble
    assert told([audit])[:2] == (0, 1)
