"""The login with a 12c verifier and mutual proof, as the server plays it."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_ROUNDS: Final = 4096
_KEY_ROUNDS: Final = 3
VERIFIER_12C: Final = 0x4815


def _cipher(key: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16)))


def _encrypt(key: bytes, data: bytes) -> bytes:
    encryptor = _cipher(key).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _decrypt(key: bytes, data: bytes) -> bytes:
    decryptor = _cipher(key).decryptor()
    return decryptor.update(data) + decryptor.finalize()


class Verifier:
    """One login: a challenge, and the judgement of its answer."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._salt = secrets.token_bytes(16)
        self._key_salt = secrets.token_bytes(16)
        self._part = secrets.token_bytes(32)
        speedy = self._salt + b"AUTH_PBKDF2_SPEEDY_KEY"
        stretched = hashlib.pbkdf2_hmac("sha512", self._password, speedy, _ROUNDS, 64)
        self._hash = hashlib.sha512(stretched + self._salt).digest()[:32]

    def challenge(self) -> list[tuple[str, str, int]]:
        return [
            ("AUTH_SESSKEY", _encrypt(self._hash, self._part).hex().upper(), 0),
            ("AUTH_VFR_DATA", self._salt.hex().upper(), VERIFIER_12C),
            ("AUTH_PBKDF2_CSK_SALT", self._key_salt.hex().upper(), 0),
            ("AUTH_PBKDF2_VGEN_COUNT", str(_ROUNDS), 0),
            ("AUTH_PBKDF2_SDER_COUNT", str(_KEY_ROUNDS), 0),
        ]

    def proof(self, answer: dict[str, str]) -> str | None:
        """The server's own proof for a right password; None for a wrong one."""
        client_part = _decrypt(self._hash, bytes.fromhex(answer["AUTH_SESSKEY"]))[:32]
        mixed = (client_part + self._part).hex().upper().encode()
        key = hashlib.pbkdf2_hmac("sha512", mixed, self._key_salt, _KEY_ROUNDS, 32)
        padded = _decrypt(key, bytes.fromhex(answer["AUTH_PASSWORD"]))
        if padded[16 : len(padded) - padded[-1]] != self._password:
            return None
        return _encrypt(key, secrets.token_bytes(16) + b"SERVER_TO_CLIENT" + bytes([16]) * 16).hex().upper()
