"""What makes the section `auth` unusable, found before anything is opened."""

from __future__ import annotations

from gateway.auth.introspection import introspection_problems
from gateway.config.auth import AuthSettings
from gateway.config.issuers import misfits, resolve
from gateway.config.problems import Problem
from gateway.net.http import FetchError, is_secure, trusting


def problems(settings: AuthSettings) -> tuple[Problem, ...]:
    """What makes these settings unusable, without asking anybody."""
    if settings.mode == "none":
        return ()
    found: list[Problem] = []
    if settings.ca is not None:
        try:
            trusting(settings.ca)
        except FetchError as error:
            found.append(Problem(("auth", "ca"), error.message))
    seen: set[str] = set()
    for index, written in enumerate(settings.issuers):
        where = ("auth", "issuers", index)
        if misfitting := [Problem(each.path, each.message) for each in misfits(where, written)]:
            found += misfitting
            continue
        issuer = resolve(written)
        if not seen.isdisjoint(issuer.names):
            found.append(Problem((*where, "issuer"), "this issuer is configured twice"))
        seen |= issuer.names
        if issuer.jwks_uri is not None and not is_secure(issuer.jwks_uri):
            found.append(Problem((*where, "jwks_uri"), "must be an https URL (http on loopback only)"))
        if issuer.jwks_uri is None and not is_secure(issuer.discovery):
            key = "issuer" if issuer.discovery == issuer.issuer else "discovery"
            found.append(Problem((*where, key), "must be an https URL (http on loopback only), or give jwks_uri"))
        found += introspection_problems((*where, "introspection"), written.introspection)
    return tuple(found)
