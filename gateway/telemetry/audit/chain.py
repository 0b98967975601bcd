"""The chain: each record carries its number and the hash of the one before it.

A record is one line of JSON. Its last field is `hash`: the digest of all bytes
before `,"hash":`, which include `prev`, the digest of the record before. With a
key the digest is HMAC-SHA256 (RFC 2104), else SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

GENESIS: Final = "0" * 64
"""`prev` of the first record of a chain."""
LINE: Final = re.compile(rb'(\{.+),"hash":"([0-9a-f]{64})"\}')
"""A record, without its line break: what is hashed, and the hash."""
HASH: Final = re.compile(r"[0-9a-f]{64}")
"""A digest as text."""
HEAD: Final = "chain.head"
"""The event of a head, which is no link of the chain itself."""


class Mac:
    """HMAC-SHA256 (RFC 2104) with its two first blocks made once: for short texts a third of the cost."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, content: bytes) -> str:
        """The code of the content, in hexadecimal."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(content)
        outer.update(inner.digest())
        return outer.hexdigest()


class Keys:
    """What is derived from `audit.chain_key`, each part for one purpose.

    Args:
        secret: the configured key; None for a chain that only shows accidents, and hashes of
            arguments that can be matched within one process only.

    Attributes:
        identity: names the key without telling it; "" without one.
        arguments: the key of the arguments' hashes.
    """

    def __init__(self, secret: str | None) -> None:
        self._chain = Mac(_derive(secret, "chain")) if secret else None
        self.arguments = _derive(secret, "arguments") if secret else os.urandom(32)
        self.identity = _derive(secret, "identity").hex()[:16] if secret else ""

    @property
    def algorithm(self) -> str:
        """How records are hashed."""
        return "hmac-sha256" if self._chain else "sha256"

    def digest(self, content: bytes) -> str:
        """The hash of a record's bytes, in hexadecimal."""
        if self._chain is None:
            return hashlib.sha256(content).hexdigest()
        return self._chain.digest(content)


def _derive(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), f"mcp-database-gateway audit {purpose}".encode(), "sha256")


@dataclass(frozen=True, slots=True)
class Link:
    """A point of a chain.

    Attributes:
        chain: whose.
        seq: the record's number, counted from 1.
        hash: the record's hash.
    """

    chain: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Previous:
    """What a log ended with when this process began.

    Attributes:
        link: the last record; None where there was none.
        torn: bytes of an unfinished record at the end, left by a crash.
    """

    link: Link | None = None
    torn: int = 0


class Chain:
    """The chain of one process. Not for threads: one loop appends."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.identity = secrets.token_hex(16)
        self.seq = 0
        self._name = self.identity.encode()
        self._hash = GENESIS.encode()
        self._clock = Clock()

    def append(self, event: str, fields: Mapping[str, Any]) -> bytes:
        """The next record as a line, its line break included."""
        self.seq += 1
        inner = encode(fields)[1:-1]
        content = b'{"chain":"%b","seq":%d,"prev":"%b","time":"%b","event":"%b"%b%b' % (
            self._name,
            self.seq,
            self._hash,
            self._clock.now(),
            event.encode(),
            b"," if inner else b"",
            inner,
        )
        self._hash = self._keys.digest(content).encode()
        return b'%b,"hash":"%b"}\n' % (content, self._hash)

    def head(self) -> bytes:
        """Where the chain stands, signed like a record: a line for another place than the records."""
        content = b'{"chain":"%b","seq":%d,"head":"%b","time":"%b","event":"%b"' % (
            self._name,
            self.seq,
            self._hash,
            self._clock.now(),
            HEAD.encode(),
        )
        return b'%b,"hash":"%b"}\n' % (content, self._keys.digest(content).encode())


class Clock:
    """Now, in UTC, to the microsecond (RFC 3339); what stays the same for a second is made once."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """The time as records write it."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            self._second = second
        return b"%b.%06dZ" % (self._text, nanoseconds // 1000)


def encode(record: Mapping[str, Any]) -> bytes:
    """Compact JSON; what `orjson` cannot hold (large integers, lone surrogates) is written by the standard library."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record, separators=(",", ":"), default=str).encode()
