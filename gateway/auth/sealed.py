"""Entries that are useless to whoever reads or writes the store in which they lie."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES: Final = 12


class Sealer:
    """Names by HMAC-SHA256, values by AES-256-GCM (NIST SP 800-38D), both with keys of their own (RFC 5869).

    A value opens only under the name it was sealed for: one that was changed, made
    by somebody else, or copied from another name, does not.

    Args:
        key: the secret that all replicas have.
        context: what the entries depend on, such as a configuration's fingerprint; another one, other names.
    """

    def __init__(self, key: str, context: bytes) -> None:
        self._naming = _derive(key, b"verdict names")
        self._cipher = AESGCM(_derive(key, b"verdict values"))
        self._context = context

    def name(self, digest: bytes) -> str:
        """The name of an entry: tells nothing of the digest to whoever has no key."""
        mac = hmac.HMAC(self._naming, hashes.SHA256())
        mac.update(self._context + digest)
        return mac.finalize().hex()

    def seal(self, name: str, value: bytes) -> bytes:
        """The value, to be read under this name only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, name.encode())

    def unseal(self, name: str, sealed: bytes) -> bytes | None:
        """The value, or None when it was not sealed for this name with this key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            return None


def _derive(key: str, purpose: bytes) -> bytes:
    info = b"mcp-database-gateway 1 " + purpose
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(key.encode())
