"""The nginx configurations of docs/how-to/load-balancers.md, as they run here: other places, and no TLS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/load-balancers.md"
NAME: Final = "gateway.test"
"""By which the first configuration asks for replicas."""


def _blocks() -> tuple[str, str]:
    first, second = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return first, second


def _changed(text: str, changes: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, f"the page no longer has {pattern}"
    return text


_PLAIN: Final = (
    (r"^ *(proxy_)?ssl_\w+ .*\n", ""),
    (r"listen 443 ssl", "listen PORT"),
    (r"proxy_pass https:", "proxy_pass http:"),
)


def by_name(resolver: str, port: int) -> str:
    """The first one: replicas by DNS.

    Args:
        resolver: address and port of the DNS server.
        port: where every replica listens.
    """
    places = ((r"10\.96\.0\.10", resolver), (r"gateway-pods\.[a-z.-]+:8080", f"{NAME}:{port}"))
    return _changed(_blocks()[0], (*_PLAIN, *places))


def with_affinity(replicas: Sequence[str]) -> str:
    """The second one: sessions stay with their replica.

    Args:
        replicas: address and port of each.
    """
    servers = "".join(f"    server {each};\n" for each in replicas)
    return _changed(_blocks()[1], (*_PLAIN, (r"( +server gateway-\d\S+;\n)+", servers)))
