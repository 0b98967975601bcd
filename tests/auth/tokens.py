"""Real keys, and tokens of any shape: also those that no honest library would make."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER: Final = "https://idp.example.com/"
AUDIENCE: Final = "https://gateway.example.com/mcp"

_ALGORITHMS: Final = get_default_algorithms()
_CURVES: Final = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@functools.cache
def private_key(algorithm: str) -> Any:
    """The key for an algorithm; one RSA key serves all RS and PS algorithms."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa_key("main")


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def jwk(private: Any, algorithm: str, kid: str | None = None, **members: Any) -> dict[str, Any]:
    """The public JWK of a private key."""
    made: dict[str, Any] = _ALGORITHMS[algorithm].to_jwk(private.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return made | ({} if kid is None else {"kid": kid}) | members


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; a change to `...` takes the claim out."""
    now = int(time.time())
    good = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": now + 3600, "iat": now, "scope": "a b"}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def sign(
    payload: Any,
    *,
    algorithm: str = "RS256",
    key: Any = None,
    kid: str | None = "k1",
    header: Mapping[str, Any] | bytes | None = None,
) -> str:
    """A compact JWS of any header and payload, correctly signed; bytes go in as they are."""
    if not isinstance(header, bytes):
        named = {"alg": algorithm, "typ": "at+jwt"} | ({} if kid is None else {"kid": kid})
        header = {name: value for name, value in (named | dict(header or {})).items() if value is not ...}
    signing_input = f"{segment(header)}.{segment(payload)}"
    maker = _ALGORITHMS[algorithm]
    signature = maker.sign(signing_input.encode(), key if key is not None else private_key(algorithm))
    return f"{signing_input}.{b64(signature)}"
