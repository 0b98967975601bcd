"""From the claims of a token whose signature was verified to a principal (RFC 9068 section 4, RFC 8725 section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.auth.refusal import Reason, refusal
from gateway.config.issuers import TrustedIssuer
from gateway.context import MISSING, Principal, claim_at

# The last second of the year 9999: a later date is a mistake or an attack (exp = 1e300).
_LAST_DATE: Final = 253_402_300_799

# An access token carries no hash of another token or code; an ID token does (OpenID Connect Core 3.3.2.11).
_ID_TOKEN_CLAIMS: Final = ("at_hash", "c_hash", "s_hash")
# Claims by which some providers name the kind of token, and what they say in an access token.
_KIND_CLAIMS: Final = {"typ": ("Bearer", "JWT", "at+jwt"), "token_use": ("access",), "tok_type": ("AT",)}


def to_principal(claims: dict[str, Any], issuer: TrustedIssuer, now: float) -> Principal:
    """Judge the claims and say who calls.

    Args:
        claims: the payload, its signature verified.
        issuer: the rules chosen by `iss`.
        now: Unix time in seconds.

    Raises:
        Unauthenticated: any rule is broken; the reason says which kind.
    """
    name = claims.get("iss")
    if not isinstance(name, str) or name not in issuer.names:
        raise refusal(Reason.UNKNOWN_ISSUER)
    _check_kind(claims)
    expires_at = _check_times(claims, issuer, now)
    _check_audience(claims.get("aud"), issuer.audiences)
    _check_presence(claims, issuer)
    client_id = _client_id(claims, issuer.client_from)
    return Principal(
        issuer=issuer.issuer,
        subject=_subject(claims, issuer.subject_from, client_id),
        client_id=client_id,
        scopes=_scopes(claims, issuer.scopes_from),
        claims=MappingProxyType(claims),
        expires_at=expires_at,
    )


def _check_kind(claims: Mapping[str, Any]) -> None:
    if "cnf" in claims:
        raise refusal(Reason.SENDER_CONSTRAINED)
    if any(name in claims for name in _ID_TOKEN_CLAIMS):
        raise refusal(Reason.TOKEN_TYPE, "an ID token: it hashes another token")
    # Some providers copy `nonce` into access tokens, but none issues an ID token that carries scopes.
    if "nonce" in claims and not any(name in claims for name in ("scope", "scp", "roles")):
        raise refusal(Reason.TOKEN_TYPE, "an ID token: nonce without any scope")
    if "events" in claims:
        raise refusal(Reason.TOKEN_TYPE, "a security event token (RFC 8417)")
    for name, allowed in _KIND_CLAIMS.items():
        if name in claims and claims[name] not in allowed:
            raise refusal(Reason.TOKEN_TYPE, f"claim {name} names another kind of token")


def _date(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 section 2): a JSON number within the years 1970 to 9999."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_DATE:
        raise refusal(Reason.CLAIMS, f"{name} is not a date")
    return float(value)


def _check_times(claims: Mapping[str, Any], issuer: TrustedIssuer, now: float) -> float:
    if "exp" not in claims:
        raise refusal(Reason.CLAIMS, "exp is missing")
    expires_at, leeway = _date(claims, "exp"), issuer.leeway
    for name in ("nbf", "iat"):
        if name in claims and _date(claims, name) > now + leeway:
            raise refusal(Reason.NOT_YET_VALID, f"{name} lies in the future")
    if expires_at <= now - leeway:
        raise refusal(Reason.EXPIRED)
    if issuer.max_token_life is not None:
        # Measured from now instead, a token for ten years would be good in the end.
        if "iat" not in claims:
            raise refusal(Reason.LIFETIME, "iat is missing, and max_token_life is set")
        if expires_at - _date(claims, "iat") > issuer.max_token_life:
            raise refusal(Reason.LIFETIME, "exp - iat exceeds max_token_life")
    return expires_at


def _check_audience(audience: Any, accepted: tuple[str, ...]) -> None:
    values = [audience] if isinstance(audience, str) else audience
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise refusal(Reason.CLAIMS, "aud is missing or not text")
    if not any(value in accepted for value in values):
        raise refusal(Reason.AUDIENCE)


def _check_presence(claims: Mapping[str, Any], issuer: TrustedIssuer) -> None:
    for path in issuer.required_claims:
        if claim_at(claims, path) is MISSING:
            raise refusal(Reason.TOKEN_TYPE, f"required claim {path} is missing")
    # A provider that finds a claim too large says where it is instead (OpenID Connect Core 5.6.2; Entra's groups).
    elsewhere = claims.get("_claim_names", {})
    if not isinstance(elsewhere, dict):
        raise refusal(Reason.CLAIMS, "_claim_names is not an object")
    for path in (*issuer.scopes_from, *issuer.subject_from, *issuer.client_from):
        first = path.split(".")[0]
        if first in elsewhere or path in elsewhere or (first == "groups" and claims.get("hasgroups")):
            raise refusal(Reason.CLAIMS_ELSEWHERE, f"{path} is left out of the token, and its absence means nothing")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refusal(Reason.CLAIMS, f"{path} is missing, empty or not text")
    return value


def _client_id(claims: Mapping[str, Any], paths: Iterable[str]) -> str:
    for path in paths:
        if (value := claim_at(claims, path)) is not MISSING:
            return _text(value, path)
    return ""


def _subject(claims: Mapping[str, Any], paths: tuple[str, ...], client_id: str) -> str:
    values = [claim_at(claims, path) for path in paths]
    if all(value is MISSING for value in values) and claims.get("sub", client_id) == client_id:
        # An application's own token; one that names somebody else in `sub` is no such token.
        return _text(client_id, paths[0])
    parts = [_text(value, path) for value, path in zip(values, paths, strict=True)]
    # Or "a/b" with "c" would be the same caller as "a" with "b/c".
    if len(parts) > 1 and any("/" in part for part in parts):
        raise refusal(Reason.CLAIMS, "a part of the subject contains a slash")
    return "/".join(parts)


def _scopes(claims: Mapping[str, Any], paths: tuple[str, ...]) -> frozenset[str]:
    """The configured claims joined; else `scope` (RFC 9068 section 2.2.3), else `scp`."""
    if paths:
        return frozenset().union(*(_words(claim_at(claims, path), path) for path in paths))
    if "scope" in claims and not isinstance(claims["scope"], str):
        raise refusal(Reason.CLAIMS, "scope is not text")
    name = "scope" if "scope" in claims else "scp"
    return _words(claims.get(name, MISSING), name)


def _words(value: Any, path: str) -> frozenset[str]:
    """Text split at spaces (Entra's `scp`), or a list of texts (Okta's); nothing where there is no claim."""
    if value is MISSING:
        return frozenset()
    if isinstance(value, str):
        return frozenset(value.split())
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refusal(Reason.CLAIMS, f"{path} is neither text nor a list of texts")
    return frozenset(value)
