"""Why a token was refused: a stable word for log and metric, a short text for the client."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.errors import Unauthenticated


class Reason(StrEnum):
    """Stable words; the value is `Unauthenticated.reason`."""

    SEVERAL_TOKENS = "several_tokens"
    """More than one Authorization header."""
    TOKEN_IN_QUERY = "token_in_query"
    """A token in the URL, where logs and histories keep it."""
    TOO_LARGE = "too_large"
    """Longer than any access token has reason to be; nothing was decoded."""
    MALFORMED = "malformed"
    """Not three strict base64url segments of unambiguous JSON objects."""
    UNKNOWN_ISSUER = "unknown_issuer"
    """`iss` is none of the configured issuers."""
    ALGORITHM = "algorithm"
    """`alg` is not in the issuer's list."""
    HEADER = "header"
    """The header asks for something not understood: `crit`, `b64`, `enc`, `zip`, nesting."""
    TOKEN_TYPE = "token_type"
    """Another kind of token than an access token."""
    UNKNOWN_KEY = "unknown_key"
    """The issuer publishes no such key."""
    KEY_MISMATCH = "key_mismatch"
    """The key is not for this algorithm."""
    SIGNATURE = "signature"
    """The signature does not verify."""
    CLAIMS = "claims"
    """A required claim is missing, or a claim has the wrong type."""
    CLAIMS_ELSEWHERE = "claims_elsewhere"
    """The token only refers to claims that are needed (too many groups)."""
    LIFETIME = "lifetime"
    """Issued for longer than the configured maximum, or without `iat` where there is one."""
    EXPIRED = "expired"
    """`exp` has passed."""
    NOT_YET_VALID = "not_yet_valid"
    """`nbf` or `iat` lies in the future."""
    AUDIENCE = "audience"
    """The token is for somebody else."""
    INACTIVE = "inactive"
    """The provider was asked and says that it is not good: revoked, over, or never issued."""
    SENDER_CONSTRAINED = "sender_constrained"
    """Bound to a key (`cnf`) that a bearer does not prove."""


_GENERIC: Final = "The access token is not valid here; get a new one from the authorization server."

# Only the causes below are told apart: all but the first two are reached by genuinely signed tokens alone.
_MESSAGES: Final = {
    Reason.SEVERAL_TOKENS: "Send exactly one Authorization header.",
    Reason.TOKEN_IN_QUERY: "Send the access token in the Authorization header, never in the URL.",
    Reason.CLAIMS_ELSEWHERE: "The access token leaves out claims that this server needs; they are too many to fit.",
    Reason.LIFETIME: "The access token lives longer than this server accepts; get one with a shorter life.",
    Reason.EXPIRED: "The access token has expired; get a new one from the authorization server.",
    Reason.NOT_YET_VALID: "The access token is not valid yet.",
    Reason.AUDIENCE: "The access token was issued for another resource; request one for this server.",
    Reason.SENDER_CONSTRAINED: "The access token is bound to a key; request a plain bearer token.",
    Reason.TOKEN_TYPE: "This is not an access token; send the access token.",
}


def refusal(reason: Reason, detail: str = "") -> Unauthenticated:
    """The error to raise: what the client may read, and the operator's detail, free of token parts."""
    return Unauthenticated(_MESSAGES.get(reason, _GENERIC), reason=reason.value, detail=detail)
