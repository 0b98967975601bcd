"""`gateway check --as`: what a caller with given claims may do, and why not the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.auth.base import OpenDoor
from gateway.auth.claims import to_principal
from gateway.config.auth import AuthSettings
from gateway.config.issuers import resolve
from gateway.config.models import GatewaySettings
from gateway.context import MISSING, Principal, claim_at
from gateway.errors import GatewayError, Unauthenticated
from gateway.server.audiences import accepting
from gateway.server.endpoint import endpoints
from gateway.strict_json import MAX_DEPTH, nests_too_deep
from gateway.tools.catalog import Catalog, Tool, toolsets
from gateway.tools.scopes import scope_rules

_LIFE = 60


class ClaimsError(GatewayError):
    """The claims cannot be those of a token; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a caller gets who calls one tool at one endpoint.

    Attributes:
        path: the endpoint's.
        tool: the tool's name.
        may_call: whether a call may succeed.
        why: what is missing, or what the arguments must be; "" where there is nothing to say.
    """

    path: str
    tool: str
    may_call: bool
    why: str

    def __str__(self) -> str:
        answer = "yes" if self.may_call else "no"
        return f"{self.path} {self.tool}: {answer}{self.why and f', {self.why}'}"


def read_caller(path: Path, settings: GatewaySettings) -> Principal:
    """The caller whose token has the claims in a JSON file; its times, issuer and audience are filled in.

    Raises:
        ClaimsError: no JSON object, or a token that would be refused.
    """
    try:
        written = path.read_bytes()
        if nests_too_deep(written):
            raise ClaimsError(f"{path}: nests deeper than {MAX_DEPTH} levels, as no token may")
        claims = json.loads(written)
    except (OSError, ValueError) as error:
        raise ClaimsError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(claims, dict):
        raise ClaimsError(f"{path}: expected a JSON object, the claims of a token")
    if settings.auth.mode == "none":
        return OpenDoor.principal
    try:
        return scope_rules(settings).enlarge(_principal(claims, accepting(settings)))
    except Unauthenticated as error:
        raise ClaimsError(f"{path}: a token with these claims is refused: {error.detail or error.message}") from None


def _principal(claims: dict[str, Any], auth: AuthSettings) -> Principal:
    issuers = [resolve(each) for each in auth.issuers]
    named = claims.get("iss", issuers[0].issuer)
    issuer = next((each for each in issuers if each.issuer == named), issuers[0])
    now = int(time.time())
    usual = {"iss": issuer.issuer, "aud": issuer.audiences[0], "sub": "somebody"}
    fresh = {name: value for name, value in claims.items() if name != "nbf"} | {"iat": now, "exp": now + _LIFE}
    return to_principal(usual | fresh, issuer, now)


def verdicts(settings: GatewaySettings, catalog: Catalog, principal: Principal) -> Iterator[Verdict]:
    """What the caller gets from every tool, at `/mcp` and at each toolset; disabled tools are not among them."""
    groups = toolsets(catalog, settings)
    for endpoint in endpoints(settings, (settings.server.public_url or "").rstrip("/")):
        try:
            endpoint.check(principal)
            refused = ""
        except Unauthenticated:
            refused = "401: the token is not for this endpoint"
        for tool in groups[endpoint.toolset] if endpoint.toolset else catalog:
            obstacle = refused or _obstacle(tool, principal)
            yield Verdict(endpoint.path, tool.name, not obstacle, obstacle or _condition(tool))


def _obstacle(tool: Tool, principal: Principal) -> str:
    """Why no call of the tool succeeds; "" where one may."""
    if broken := tool.access.broken(principal.claims, None):
        return f"not there for this caller, who fails: {'; '.join(rule.text for rule in broken)}"
    if not tool.access.is_granted(principal):
        return f"403: needs {' '.join(tool.access.needed(principal))}"
    taken = tool.parameters.taken.claims.values() if tool.parameters.taken else ()
    absent = [path for path in taken if claim_at(principal.claims, path) in (MISSING, None)]
    return f"access_denied: the token has no {' and no '.join(absent)}" if absent else ""


def _condition(tool: Tool) -> str:
    """What the arguments must be beside what the schema says."""
    conditions = [rule.text for rule in tool.access.rules if rule.argument]
    return f"where {'; '.join(conditions)}" if conditions else ""
