"""What the TLS settings mean, before any server is asked."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from pathlib import Path

import pytest

from gateway.config.logins import TlsSettings
from gateway.database import tls
from gateway.net.tls import Sighting
from tests.servers.certificates import Authority


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


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def _age(file: Path) -> None:
    os.utime(file, (time.time() - 60, time.time() - 60))


def test_a_context_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    authority, sighting = tmp_path / "ca.pem", Sighting()
    settings = TlsSettings(ca=authority)

    def trusted(*, of: Sighting = sighting, host: str = "db.internal") -> ssl.SSLContext:
        context = tls.context_of(settings, host, of)
        assert context is not None
        return context

    shutil.copy(Authority(_folder(tmp_path, "first")).path, authority)
    assert trusted() is not trusted(), "what was written just now may be written again without a trace"
    _age(authority)
    first = trusted()
    assert trusted() is first
    assert trusted(host="other.internal") is first
    assert trusted(of=Sighting()) is not first
    shutil.copy(Authority(_folder(tmp_path, "second")).path, tmp_path / "new.pem")
    (tmp_path / "new.pem").replace(authority)
    _age(authority)
    second = trusted()
    assert second is not first
    assert second.get_ca_certs() != first.get_ca_certs()
    authority.unlink()
    with pytest.raises(tls.TlsUnusable, match=r"ca\.pem"):
        trusted()
