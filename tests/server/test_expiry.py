"""How long certificate files are good for, read again when they change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import aiohttp
import pytest

from tests.servers.certificates import Authority
from tests.world import CONFIGURATION, open_world

DAY = 86_400


async def _expiry(url: str, role: str, name: str) -> float | None:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    start = f'gateway_certificate_expiry_seconds{{name="{name}",role="{role}"}}'
    other = f'gateway_certificate_expiry_seconds{{role="{role}",name="{name}"}}'
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith((start, other))), None)


async def test_files_are_watched(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("client", days=20)
    source = (
        "  pg: {engine: postgresql, host: localhost, port: 1, database: x, user: x, tls: "
        f"{{ca: {authority.path}, certificate: {pair.certificate}, key: {pair.key}}}}}\n"
    )
    wallet = tmp_path / "wallet"
    wallet.mkdir()
    (wallet / "ewallet.pem").write_bytes(
        pair.key.read_bytes() + b"Bag Attributes\n    friendlyName: gateway\n" + pair.certificate.read_bytes()
    )
    source += (
        "  ora: {engine: oracle, host: localhost, port: 1, service: x, user: x, "
        f"password: '${{env:PASSWORD}}', wallet: {wallet}}}\n"
    )
    configuration = CONFIGURATION.replace("sources:\n", f"sources:\n{source}")
    async with open_world(tmp_path, configuration, {"PASSWORD": "secret"}) as world:
        url = world.gateway.admin_url
        assert await _expiry(url, "client", "pg") == pytest.approx(20 * DAY, abs=600)
        assert await _expiry(url, "client", "ora") == pytest.approx(20 * DAY, abs=600)
        assert await _expiry(url, "ca", "pg") == pytest.approx(DAY, abs=600)
        assert await _expiry(url, "server", "pg") is None
        later = authority.issue("client-2", days=40)
        pair.certificate.write_bytes(later.certificate.read_bytes())
        changed = time.time() + 5
        os.utime(pair.certificate, (changed, changed))
        assert await _expiry(url, "client", "pg") == pytest.approx(40 * DAY, abs=600)
        pair.certificate.write_text("no certificate")
        os.utime(pair.certificate, (changed + 5, changed + 5))
        assert await _expiry(url, "client", "pg") is None
