"""`gateway doctor` at real identity providers: right, wrong, silent, and with another time."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.auth.provider import FaultyProvider, answers
from tests.auth.tokens import AUDIENCE
from tests.cli.doctor import visit_beside, write
from tests.net.test_proxy import ISSUER, NAME, PASSWORD, opened
from tests.servers.certificates import Authority, Pair

SECRET = "a-secret-that-nobody-may-read"


class ShiftedProvider(FaultyProvider):
    """A provider whose clock is off by some seconds."""

    shift = 0.0

    def application(self) -> web.Application:
        app = super().application()
        app.on_response_prepare.append(self._date)
        return app

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(time.time() + self.shift, usegmt=True)


def trusting(folder: Path, issuer: str, **more: Any) -> Path:
    return write(folder, auth={"issuers": [{"issuer": issuer, "audiences": [AUDIENCE], **more}]})


def introspection(folder: Path, provider: FaultyProvider, **more: Any) -> dict[str, Any]:
    (folder / "secret").write_text(SECRET)
    asked = {"endpoint": provider.introspection_url, "client_id": "gw", "client_secret": f"${{file:{folder}/secret}}"}
    return {"introspection": asked | more}


async def test_a_provider_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultyProvider() as provider:
        path = trusting(tmp_path, provider.issuer, **introspection(tmp_path, provider))
        found = await visit_beside(path, capsys)
        assert found.code == 0
        steps = found.steps[provider.issuer]
        assert {name: step["outcome"] for name, step in steps.items()} == {
            "dns": "skipped",
            "tcp": "ok",
            "clock": "ok",
            "discovery": "ok",
            "keys": "ok",
            "introspection": "ok",
        }
        assert steps["discovery"]["facts"] == {"jwks_uri": provider.jwks_uri}
        assert steps["keys"]["text"] == "usable keys: 1 for RS256"
        assert len(provider.questions) == 1
        host = provider.issuer.removeprefix("http://")
        assert list((await visit_beside(path, capsys, "--only", host)).steps) == [provider.issuer]


@pytest.mark.parametrize(
    ("shift", "code", "outcome", "words"),
    [
        (-300, 1, "failed", " s behind ours, more than the leeway of 30 s: good tokens are refused"),
        (300, 1, "failed", " s ahead of ours, more than the leeway of 30 s: good tokens are refused"),
        (22, 0, "warning", " s ahead of ours, leeway 30 s"),
        (-8, 0, "ok", "within "),
    ],
)
async def test_clocks(
    shift: float, code: int, outcome: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ShiftedProvider() as provider:
        provider.shift = shift
        found = await visit_beside(trusting(tmp_path, provider.issuer), capsys)
    step = found.steps[provider.issuer]["clock"]
    assert (found.code, step["outcome"]) == (code, outcome)
    assert words in step["text"]
    assert step["facts"]["skew_seconds"] == pytest.approx(shift, abs=3)


@pytest.mark.parametrize(
    ("path", "body", "status", "step", "words"),
    [
        ("/jwks", '{"keys": []}', 200, "keys", "the key set has no usable key"),
        ("/jwks", "no JSON", 200, "keys", "the answer is not JSON"),
        ("/jwks", "{}", 500, "keys", "HTTP status 500 instead of 200"),
        ("discovery", "{}", 404, "discovery", "HTTP status 404 instead of 200"),
        ("discovery", '{"issuer": "https://other.example"}', 200, "discovery", "'https://other.example'; set exactly"),
    ],
)
async def test_what_a_provider_says_wrong(
    path: str, body: str, status: int, step: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FaultyProvider() as provider:
        if path == "discovery":
            provider.break_all(answers(body, status))
        else:
            provider.faults[path] = answers(body, status)
        found = await visit_beside(trusting(tmp_path, provider.issuer), capsys)
    told = found.steps[provider.issuer][step]
    assert (found.code, told["outcome"]) == (1, "failed")
    assert words in told["text"]


async def test_keys_that_fit_no_algorithm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultyProvider() as provider:
        found = await visit_beside(trusting(tmp_path, provider.issuer, algorithms=["ES256", "EdDSA"]), capsys)
    assert found.code == 1
    assert found.steps[provider.issuer]["keys"]["text"] == "no published key fits algorithms (ES256, EdDSA)"


async def test_a_provider_that_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultyProvider() as provider:
        provider.flowing.clear()
        path = trusting(tmp_path, provider.issuer, jwks_uri=provider.jwks_uri, **introspection(tmp_path, provider))
        found = await visit_beside(path, capsys, "--timeout", "0.6")
        steps = found.steps[provider.issuer]
        assert found.code == 124
        assert (steps["keys"]["outcome"], steps["introspection"]["outcome"]) == ("timed_out", "timed_out")
        assert steps["clock"]["outcome"] == "skipped"
        found = await visit_beside(trusting(tmp_path, provider.issuer), capsys, "--timeout", "0.6")
        assert (found.code, found.steps[provider.issuer]["discovery"]["outcome"]) == (124, "timed_out")


async def test_introspection_that_does_not_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultyProvider() as provider:
        path = trusting(tmp_path, provider.issuer, **introspection(tmp_path, provider))
        provider.faults["/introspect"] = answers('{"error": "invalid_client"}', 401)
        found = await visit_beside(path, capsys)
        step = found.steps[provider.issuer]["introspection"]
        assert found.code == 1
        assert "HTTP status 401 instead of 200" in step["text"]
        assert step["advice"].startswith("Check introspection.client_id with its secret or key")
        provider.faults["/introspect"] = answers('{"active": true}')
        found = await visit_beside(path, capsys)
        assert found.code == 1
        assert found.steps[provider.issuer]["introspection"]["text"] == "it calls a made-up token active"
        assert SECRET not in json.dumps(found.document)
        elsewhere = introspection(tmp_path, provider, endpoint="http://127.0.0.1:9/introspect")
        found = await visit_beside(trusting(tmp_path, provider.issuer, **elsewhere), capsys)
        assert found.code == 1
        assert found.steps[provider.issuer]["tcp"]["text"] == "127.0.0.1:9 refused the connection"


@asynccontextmanager
async def serving(pair: Pair) -> AsyncIterator[str]:
    """A port that speaks TLS, and nothing in it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "days", "is_trusted", "words"),
    [
        ("localhost", 1.0, False, "nobody we trust has signed it; it was issued by CN=test authority"),
        ("localhost", -2.0, True, "it expired on "),
        ("elsewhere.test", 1.0, True, "it is for elsewhere.test, not for localhost"),
    ],
)
async def test_certificates_of_providers(
    name: str,
    days: float,
    is_trusted: bool,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path / "authority", days=200)
    if is_trusted:
        monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority.path))
    async with serving(authority.issue(name, days=days)) as issuer:
        found = await visit_beside(trusting(tmp_path, issuer), capsys)
    assert found.code == 1
    assert found.steps[issuer]["tls"]["outcome"] == "failed"
    assert words in found.steps[issuer]["tls"]["text"]
    assert found.steps[issuer]["keys"]["outcome"] == "skipped"


async def test_the_way_by_an_egress_proxy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as egress:

        async def steps(proxy: str, issuer: str = ISSUER) -> dict[str, tuple[str, str]]:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            auth = {"issuers": [{"issuer": issuer, "audiences": [AUDIENCE]}], "ca": str(egress.ca)}
            found = await visit_beside(write(tmp_path, auth=auth), capsys)
            assert PASSWORD not in json.dumps(found.document)
            return {name: (step["outcome"], step["text"]) for name, step in found.steps[issuer].items()}

        found = await steps(egress.environment())
        assert found["proxy"] == ("ok", f"HTTPS_PROXY leads by 127.0.0.1:{egress.proxy.port}")
        assert found["tcp"][0] == "ok"
        assert found["tls"][0] == "ok"
        assert f"certificate for {NAME}" in found["tls"][1]
        assert found["keys"][0] == "ok"
        assert set(egress.proxy.asked) == {f"{NAME}:443 200"}
        found = await steps(egress.environment("gateway:wrong@"))
        assert found["tls"] == ("failed", f"the proxy refuses the way to {NAME}:443: HTTP status 407")
        found = await steps(egress.environment(), "https://elsewhere.test")
        assert found["tls"] == ("failed", "the proxy refuses the way to elsewhere.test:443: HTTP status 403")
        assert found["keys"][0] == "skipped"
        found = await steps("http://127.0.0.1:9")
        assert found["tcp"] == ("failed", "127.0.0.1:9 refused the connection")
        found = await steps("socks5://gateway:secret@proxy.test")
        assert found["proxy"][0] == "failed"
        monkeypatch.setenv("NO_PROXY", ".zone.test")
        assert "proxy" not in await steps(egress.environment())
