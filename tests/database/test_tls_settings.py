"""What the TLS settings mean, before any server is asked."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from gateway.config.logins import TlsSettings
from gateway.database import tls


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("127.0.0.1", "disable"),
        ("::1", "disable"),
        ("localhost", "disable"),
        ("/var/run/postgresql", "disable"),
        ("db.internal", "verify-full"),
        ("localhost.example.com", "verify-full"),
        ("10.0.0.1", "verify-full"),
    ],
)
def test_the_default_verifies_everything_off_loopback(host: str, mode: str) -> None:
    assert tls.mode_of(TlsSettings(), host) == mode


def test_only_modern_ciphers_are_offered() -> None:
    context = tls.context_of(TlsSettings(min_version="1.2"), "db.internal")
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["protocol"] == "TLSv1.3" or "ECDHE" in cipher["name"]
    strict = tls.context_of(TlsSettings(), "db.internal")
    assert strict is not None
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(tls.TlsUnusable, match=r"missing\.pem"):
        tls.context_of(TlsSettings(ca=tmp_path / "missing.pem"), "db.internal")
