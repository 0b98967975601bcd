"""The token of a request, from its Authorization header and nowhere else (RFC 6750 section 2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from gateway.auth.refusal import Reason, refusal
from gateway.errors import Unauthenticated

MAX_TOKEN_BYTES: Final = 16 * 1024
"""Longest token looked at; a token of 5 MB would hold the event loop for half a second."""

_SCHEME: Final = re.compile(r"bearer(?: +|$)", re.IGNORECASE | re.ASCII)
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


def bearer_token(authorization: Sequence[str], query_names: Collection[str] = ()) -> str:
    """The one bearer token of a request.

    Args:
        authorization: every value of the Authorization header, as received.
        query_names: the names of the URL's query parameters.

    Raises:
        Unauthenticated: no token (reason ""; so too for another scheme, RFC 6750 section 3.1),
            more than one, one in the query string, too large, or not a token68 (RFC 9110 section 11.2).
    """
    if query_names and any(name.lower() == "access_token" for name in query_names):
        raise refusal(Reason.TOKEN_IN_QUERY)
    if len(authorization) > 1:
        raise refusal(Reason.SEVERAL_TOKENS)
    value = authorization[0] if authorization else ""
    scheme = _SCHEME.match(value)
    if scheme is None:
        raise Unauthenticated("This server needs an access token in the Authorization header.")
    # Measured before any search for the token's end, so that size alone costs nothing.
    if len(value) - scheme.end() > MAX_TOKEN_BYTES:
        raise refusal(Reason.TOO_LARGE)
    token = value[scheme.end() :].rstrip(" \t")
    if _TOKEN68.fullmatch(token) is None:
        raise refusal(Reason.MALFORMED, "not a token68")
    return token
