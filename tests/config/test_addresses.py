"""What counts as this machine; plain http, no TLS and no authentication hang on it."""

import pytest

from gateway.config.addresses import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "0.0.0.0", "::", "128.0.0.1", "localhost.example", "db.localhost", "127.0.0.1.example"),
        *("127.1", "2130706433", "0x7f000001", "[::1", "[[::1]]", "localhost:80", "/tmp"),
    ],
)
def test_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
