"""TLS in memory: how much is set aside for a read, and that nothing is lost for it."""

from __future__ import annotations

import ssl
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway.config.logins import TlsSettings
from gateway.config.server import ListenerTlsSettings
from gateway.database import tls
from gateway.net.http import trusting
from gateway.net.tls import RECORD, Sighting
from gateway.server.tls import Certificates
from tests.servers.certificates import Authority

ASKED: Final = 256 * 1024
"""What asyncio and uvloop ask for in each read."""
NAME: Final = "db.test"
HOST: Final = "db.example"


def database(authority: Authority, sighting: Sighting | None = None) -> ssl.SSLContext:
    context = tls.context_of(TlsSettings(ca=authority.path, server_name=NAME), HOST, sighting)
    assert context is not None
    return context


def listener(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue(NAME)
    return Certificates(ListenerTlsSettings(certificate=pair.certificate, key=pair.key)).context


MAKERS: Final[dict[str, Callable[[Authority], ssl.SSLContext]]] = {
    "database": database,
    "database that is watched": lambda authority: database(authority, Sighting()),
    "provider": lambda authority: trusting(authority.path),
    "listener": listener,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_no_read_sets_more_aside_than_a_record_holds(kind: str, tmp_path: Path) -> None:
    """Such holes, one for each read, let the heap of a busy gateway grow for hours."""
    context = MAKERS[kind](Authority(tmp_path))
    is_server = kind == "listener"
    link = context.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=is_server, server_hostname=None if is_server else NAME
    )
    tracemalloc.start()
    try:
        with pytest.raises(ssl.SSLWantReadError):
            link.read(ASKED)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < ASKED / 4


def test_nothing_is_lost_in_modest_reads(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = database(authority).wrap_bio(back, there)
    server = listener(authority).wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    sent = bytes(range(256)) * 1000
    server.write(sent)
    pieces = []
    while back.pending or client.pending():
        pieces.append(client.read(ASKED))
    assert b"".join(pieces) == sent
    assert max(map(len, pieces)) == RECORD
    server.write(sent)
    whole = bytearray(len(sent))
    count = client.read(len(whole), whole)  # a buffer of the reader's own is used as it is
    assert int(count) > 0
    assert whole[: int(count)] == sent[: int(count)]
