"""What a client learns about getting in: resource metadata (RFC 9728) and challenges (RFC 6750 section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from yarl import URL

from gateway.config.auth import AuthSettings
from gateway.config.issuers import resolve

_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_NOT_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def metadata_url(resource: str) -> str:
    """Where the metadata of a resource is: the well-known part comes between host and path (RFC 9728 section 3.1)."""
    url = URL(resource)
    return str(url.with_path(_WELL_KNOWN + url.path.rstrip("/")))


def resource_metadata(
    resource: str, settings: AuthSettings, scopes: Iterable[str], name: str | None = None
) -> dict[str, Any]:
    """The protected resource metadata document (RFC 9728 section 2).

    Args:
        resource: the URL clients use, as it must appear in `aud`.
        settings: whose issuers are named; with none of them the member is left out.
        scopes: the fewest a client should ask for; `offline_access` is never among them.
        name: for people; the product's where absent.
    """
    document: dict[str, Any] = {
        "resource": resource,
        "resource_name": name or "MCP Database Gateway",
        "bearer_methods_supported": ["header"],
        "scopes_supported": sorted(set(_writable(scopes)) - {"offline_access"}),
    }
    if settings.issuers and settings.mode != "none":
        document["authorization_servers"] = list(
            dict.fromkeys(resolve(issuer).advertised for issuer in settings.issuers)
        )
    return document


def challenge(
    metadata_url: str, *, error: str | None = None, description: str | None = None, scopes: Iterable[str] = ()
) -> str:
    """The value of WWW-Authenticate.

    Args:
        metadata_url: the URL of the resource metadata (RFC 9728 section 5.1).
        error: None when no token came at all, else `invalid_token` or `insufficient_scope`.
        description: for the client's developer.
        scopes: everything the operation needs, or the fewest to begin with.
    """
    parameters = {"error": error, "error_description": description and description.replace('"', "'")}
    parameters["scope"] = " ".join(dict.fromkeys(_writable(scopes)))
    parameters["resource_metadata"] = metadata_url
    return "Bearer " + ", ".join(f"{name}={_quoted(value)}" for name, value in parameters.items() if value)


def _writable(scopes: Iterable[str]) -> list[str]:
    """Scopes that the header may carry (RFC 6749 section 3.3); no token could grant the others."""
    return [scope for scope in scopes if _SCOPE_TOKEN.fullmatch(scope)]


def _quoted(value: str) -> str:
    """A quoted-string (RFC 9110 section 5.6.4); what is not printable ASCII becomes a question mark."""
    plain = _NOT_PRINTABLE.sub("?", value)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
