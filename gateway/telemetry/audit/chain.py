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
from datetime import UTC, datetime
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
        self._chain = _derive(secret, "chain") if secret else None
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
        return hmac.digest(self._chain, content, "sha256").hex()


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
        self._hash = GENESIS

    def append(self, event: str, fields: Mapping[str, Any]) -> bytes:
        """The next record as a line, its line break included."""
        self.seq += 1
        record = {"chain": self.identity, "seq": self.seq, "prev": self._hash, "time": timestamp(), "event": event}
        content = encode({**record, **fields})[:-1]
        self._hash = self._keys.digest(content)
        return _line(content, self._hash)

    def head(self) -> bytes:
        """Where the chain stands, signed like a record: a line for another place than the records."""
        record = {"chain": self.identity, "seq": self.seq, "head": self._hash, "time": timestamp(), "event": HEAD}
        content = encode(record)[:-1]
        return _line(content, self._keys.digest(content))


def timestamp() -> str:
    """Now, in UTC, to the microsecond (RFC 3339)."""
    nanoseconds = time.time_ns()
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{nanoseconds // 1000 % 1_000_000:06d}Z"


def encode(record: Mapping[str, Any]) -> bytes:
    """Compact JSON; what `orjson` cannot hold (large integers, lone surrogates) is written by the standard library."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record, separators=(",", ":"), default=str).encode()


def _line(content: bytes, digest: str) -> bytes:
    return b'%b,"hash":"%b"}\n' % (content, digest.encode())
