"""Tokens and keys in the JOSE formats (RFC 7515, 7517, 7518, 7519, 8725); the one user of PyJWT.

PyJWT serves for key parsing and signatures only: it would accept duplicate
members and padded segments, so the compact form is taken apart here, strictly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWK, PyJWTError, encode
from jwt.algorithms import get_default_algorithms

from gateway.auth.bearer import MAX_TOKEN_BYTES
from gateway.auth.refusal import Reason, refusal
from gateway.config.issuers import TrustedIssuer
from gateway.strict_json import MAX_DEPTH, nests_too_deep, strict_decoder

_ALGORITHMS: Final = get_default_algorithms()

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_FAMILIES: Final[Mapping[tuple[str, str | None], frozenset[str]]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_PUBLIC_MEMBERS: Final = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_MAX_MEMBER: Final = 2048
_RSA_BITS: Final = range(2048, 8193)

# Each changes how the token must be read; none is understood here, so none may be overlooked.
_REFUSED_MEMBERS: Final = ("crit", "b64", "enc", "zip", "cty")


class UnusableKeyError(ValueError):
    """A JWK that cannot verify signatures here; the text says why, for the operator."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of an issuer.

    Attributes:
        kid: its name in the set, if it has one.
        algorithms: the signature algorithms it may be used with.
        material: the key itself, for PyJWT.
        thumbprint: identifies the key whatever its name (RFC 7638, SHA-256).
    """

    kid: str | None
    algorithms: frozenset[str]
    material: Any
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart, its signature not yet checked: nothing in it may be believed."""

    header: Mapping[str, Any]
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """`alg`, as text that equals no algorithm when it is none."""
        value = self.header.get("alg")
        return value if isinstance(value, str) else ""

    @property
    def kid(self) -> str | None:
        """`kid`: only ever compared with the names of known keys."""
        value = self.header.get("kid")
        return value if isinstance(value, str) else None


def load_key(jwk: Any) -> SigningKey:
    """A signature key from a JWK (RFC 7517, 7518 section 6, 8037).

    Raises:
        UnusableKeyError: it is private, symmetric, not for signatures, weak or broken.
    """
    if not isinstance(jwk, dict):
        raise UnusableKeyError("not an object")
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise UnusableKeyError("a private or symmetric key was published")
    kid, kty, crv, alg = jwk.get("kid"), jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if not isinstance(kty, str) or not isinstance(crv, str | None) or not isinstance(kid, str | None):
        raise UnusableKeyError("kid, kty or crv is not text")
    family = _FAMILIES.get((kty, None if kty == "RSA" else crv))
    if family is None:
        raise UnusableKeyError("key type or curve is not supported")
    if alg is not None and alg not in tuple(family):
        raise UnusableKeyError("alg does not fit the key type")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKeyError("not a signature key")
    public = {name: jwk.get(name) for name in _PUBLIC_MEMBERS[kty]}
    if any(not isinstance(value, str) or len(value) > _MAX_MEMBER for value in public.values()):
        raise UnusableKeyError("a member is missing, not text or too long")
    algorithms = family if alg is None else frozenset({alg})
    return SigningKey(kid, algorithms, _material(public, min(algorithms)), _thumbprint(public))


def _material(public: dict[str, Any], algorithm: str) -> Any:
    try:
        key = PyJWK(public, algorithm).key
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKeyError(f"broken key: {type(error).__name__}") from error
    if isinstance(key, RSAPublicKey) and key.key_size not in _RSA_BITS:
        raise UnusableKeyError(f"RSA key of {key.key_size} bits; 2048 to 8192 are accepted")
    return key


def _thumbprint(public: Mapping[str, Any]) -> str:
    canonical = json.dumps(public, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()


def parse(token: str) -> Token:
    """Take a compact JWS apart (RFC 7515 section 7.1). Nothing is verified.

    Raises:
        Unauthenticated: too large (before anything is decoded), or malformed.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise refusal(Reason.TOO_LARGE)
    if not token.isascii() or token.count(".") != 2:
        raise refusal(Reason.MALFORMED, "not three segments")
    header, payload, signature = token.encode("ascii").split(b".")
    return Token(
        header=_json_object(_base64url(header), "header"),
        claims=_json_object(_base64url(payload), "payload"),
        signing_input=header + b"." + payload,
        signature=_base64url(signature),
    )


def _base64url(segment: bytes) -> bytes:
    """Strict: the alphabet, no padding, no stray bits; one text for each value (RFC 7515 section 2)."""
    try:
        value = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except ValueError as error:
        raise refusal(Reason.MALFORMED, "not base64url") from error
    # The decoder skips foreign characters and loose bits; only the canonical text survives this.
    if not value or base64.urlsafe_b64encode(value).rstrip(b"=") != segment:
        raise refusal(Reason.MALFORMED, "not canonical base64url")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("number out of range")
    return value


_decoder: Final = strict_decoder(_finite)


def _json_object(data: bytes, part: str) -> dict[str, Any]:
    if nests_too_deep(data):
        raise refusal(Reason.MALFORMED, f"{part} nests deeper than {MAX_DEPTH} levels")
    try:
        value = _decoder.decode(data.decode("utf-8"))
        if b"\\ud" in data.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate fails here, not in a log later
    except ValueError as error:
        raise refusal(Reason.MALFORMED, f"{part} is not strict JSON") from error
    if not isinstance(value, dict):
        raise refusal(Reason.MALFORMED, f"{part} is not a JSON object")
    return value


def check_header(token: Token, issuer: TrustedIssuer) -> None:
    """Everything that can be refused before a key is touched (RFC 8725 sections 3.1, 3.11).

    `jku`, `jwk`, `x5u` and `x5c` are ignored: keys come from the configured issuer only.

    Raises:
        Unauthenticated: an algorithm outside the issuer's list, a header member that
            must be understood and is not, or another kind of token.
    """
    header = token.header
    if token.algorithm not in issuer.algorithms:
        raise refusal(Reason.ALGORITHM, "alg is not in the issuer's list")
    for member in _REFUSED_MEMBERS:
        if member in header:
            raise refusal(Reason.HEADER, f"header member {member}")
    if "kid" in header and token.kid is None:
        raise refusal(Reason.HEADER, "kid is not text")
    # A media type without regard to case; "application/" may be left out (RFC 7515 section 4.1.9).
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in issuer.token_types:
        raise refusal(Reason.TOKEN_TYPE, "typ is not that of an access token")


def is_signed_by(token: Token, key: SigningKey) -> bool:
    """Whether the token's signature verifies with the key, which must be meant for its algorithm."""
    if token.algorithm not in key.algorithms:
        return False
    algorithm = _ALGORITHMS[token.algorithm]
    try:
        return algorithm.verify(token.signing_input, algorithm.prepare_key(key.material), token.signature)
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return False


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The gateway's own private key, by which it proves to a provider who it is.

    Attributes:
        material: the key, for PyJWT.
        algorithm: what it signs with.
        kid: its name at the provider, if it has one there.
    """

    material: Any
    algorithm: str
    kid: str | None

    def assertion(self, client_id: str, audience: str, now: float) -> str:
        """A client assertion (RFC 7523 section 3), good once and for a minute."""
        issued_at = int(now)
        claims = {"iss": client_id, "sub": client_id, "aud": audience, "jti": secrets.token_urlsafe(16)}
        times = {"iat": issued_at, "nbf": issued_at, "exp": issued_at + 60}
        headers = {"kid": self.kid} if self.kid else None
        return encode({**claims, **times}, self.material, self.algorithm, headers=headers)


def load_client_key(pem: str, kid: str | None) -> ClientKey:
    """A private key in PEM: RSA of at least 2048 bits, P-256, P-384 or Ed25519.

    Raises:
        UnusableKeyError: it is none of these, encrypted or broken; nothing of it is told.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKeyError("expected an unencrypted private key in PEM") from error
    match key:
        case RSAPrivateKey() if key.key_size in _RSA_BITS:
            return ClientKey(key, "RS256", kid)
        case EllipticCurvePrivateKey() if isinstance(key.curve, SECP256R1 | SECP384R1):
            return ClientKey(key, "ES256" if isinstance(key.curve, SECP256R1) else "ES384", kid)
        case Ed25519PrivateKey():
            return ClientKey(key, "EdDSA", kid)
    raise UnusableKeyError("expected an RSA key of 2048 to 8192 bits, P-256, P-384 or Ed25519")
