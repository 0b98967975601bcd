"""From the claims of a token whose signature was verified to a principal (RFC 9068 section 4, RFC 8725 section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.auth.refusal import Reason, refusal
from gateway.config.auth import IssuerSettings
from gateway.context import Principal

# The last second of the year 9999: a later date is a mistake or an attack (exp = 1e300).
_LAST_DATE: Final = 253_402_300_799

_CLIENT_CLAIMS: Final = ("client_id", "azp", "appid", "cid")
# An access token carries no hash of another token or code; an ID token does (OpenID Connect Core 3.3.2.11).
_ID_TOKEN_CLAIMS: Final = ("at_hash", "c_hash", "s_hash")
# Claims by which some providers name the kind of token, and what they say in an access token.
_KIND_CLAIMS: Final = {"typ": ("Bearer", "JWT", "at+jwt"), "token_use": ("access",), "tok_type": ("AT",)}


def to_principal(claims: dict[str, Any], issuer: IssuerSettings, now: float) -> Principal:
    """Judge the claims and say who calls.

    Args:
        claims: the payload, its signature verified.
        issuer: the settings chosen by `iss`.
        now: Unix time in seconds.

    Raises:
        Unauthenticated: any rule is broken; the reason says which kind.
    """
    if claims.get("iss") != issuer.issuer:
        raise refusal(Reason.UNKNOWN_ISSUER)
    _check_kind(claims)
    expires_at = _check_times(claims, issuer.leeway, now)
    _check_audience(claims.get("aud"), issuer.audiences)
    client_id = _client_id(claims)
    subject = claims.get("sub", client_id)
    if not isinstance(subject, str) or not subject.strip():
        raise refusal(Reason.CLAIMS, "sub is missing, empty or not text")
    return Principal(
        issuer=issuer.issuer,
        subject=subject,
        client_id=client_id,
        scopes=_scopes(claims),
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


def _check_times(claims: Mapping[str, Any], leeway: float, now: float) -> float:
    if "exp" not in claims:
        raise refusal(Reason.CLAIMS, "exp is missing")
    expires_at = _date(claims, "exp")
    for name in ("nbf", "iat"):
        if name in claims and _date(claims, name) > now + leeway:
            raise refusal(Reason.NOT_YET_VALID, f"{name} lies in the future")
    if expires_at <= now - leeway:
        raise refusal(Reason.EXPIRED)
    return expires_at


def _check_audience(audience: Any, accepted: tuple[str, ...]) -> None:
    values = [audience] if isinstance(audience, str) else audience
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise refusal(Reason.CLAIMS, "aud is missing or not text")
    if not any(value in accepted for value in values):
        raise refusal(Reason.AUDIENCE)


def _client_id(claims: Mapping[str, Any]) -> str:
    for name in _CLIENT_CLAIMS:
        if name in claims:
            value = claims[name]
            if not isinstance(value, str) or not value.strip():
                raise refusal(Reason.CLAIMS, f"{name} is empty or not text")
            return value
    return ""


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """`scope` as text (RFC 9068 section 2.2.3), else `scp` as text (Entra) or list (Okta)."""
    value = claims["scope"] if "scope" in claims else claims.get("scp", "")
    if isinstance(value, str):
        return frozenset(value.split())
    if "scope" in claims or not isinstance(value, list) or not all(isinstance(scope, str) for scope in value):
        raise refusal(Reason.CLAIMS, "scope is not text, nor scp text or a list of texts")
    return frozenset(value)
