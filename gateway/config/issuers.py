"""From an issuer as it is written to plain rules, with no preset left in them; and what contradicts itself there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.config.auth import IssuerSettings
from gateway.config.presets import PRESETS
from gateway.config.problems import ConfigError, Finding, KeyPath, Problem

_PRESET_KEYS: Final = ("tenant", "version", "domain", "server", "realm")
# Okta's own type says nothing else than that it is an access token.
_TOKEN_TYPES: Final = {"any-jwt": frozenset({"jwt", "at+jwt", "okta-internal-at+jwt"}), "at+jwt": frozenset({"at+jwt"})}


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """The rules for the tokens of one issuer.

    Attributes:
        issuer: its name, as principals carry it.
        names: every `iss` that its tokens may have.
        audiences: what `aud` may be.
        discovery: a base URL, or the URL of the discovery document.
        jwks_uri: where the keys are; None asks discovery.
        advertised: the authorization server that clients are told.
        algorithms: what `alg` may be.
        token_types: what `typ` may be, in lower case without `application/`; "jwt" stands for none as well.
        leeway: clock skew to forgive, in seconds.
        max_token_life: from `iat` to `exp`, in seconds; None for any.
        required_claims: paths of claims that must be there.
        scopes_from: paths of claims that are joined to scopes; empty for the standard ones.
        subject_from: paths of claims that together are the subject.
        client_from: paths of claims of which the first is the client.
        written: the settings all this comes from.
    """

    issuer: str
    names: frozenset[str]
    audiences: tuple[str, ...]
    discovery: str
    jwks_uri: str | None
    advertised: str
    algorithms: frozenset[str]
    token_types: frozenset[str]
    leeway: float
    max_token_life: float | None
    required_claims: tuple[str, ...]
    scopes_from: tuple[str, ...]
    subject_from: tuple[str, ...]
    client_from: tuple[str, ...]
    written: IssuerSettings


def resolve(written: IssuerSettings) -> TrustedIssuer:
    """Fill in what the preset knows and what follows from the rest.

    Raises:
        ConfigError: a key is missing without which the issuer cannot be told.
    """
    filled = PRESETS[written.preset].fill(written) if written.preset else {}
    settings = written.model_copy(update={key: filled[key] for key in filled.keys() - written.model_fields_set})
    issuer, missing = settings.issuer, tuple(_missing(written))
    if issuer is None or missing:
        raise ConfigError([Problem((key,), message) for key, message in missing])
    bare = issuer.removesuffix("/")
    return TrustedIssuer(
        issuer=issuer,
        names=frozenset({issuer} if settings.trailing_slash == "exact" else {bare, bare + "/"}),
        audiences=settings.audiences,
        discovery=settings.discovery or issuer,
        jwks_uri=settings.jwks_uri,
        advertised=settings.advertised or issuer,
        algorithms=frozenset(settings.algorithms),
        token_types=_TOKEN_TYPES[settings.token_type],
        leeway=settings.leeway,
        max_token_life=settings.max_token_life,
        required_claims=settings.required_claims,
        scopes_from=settings.scopes_from,
        subject_from=settings.subject_from,
        client_from=settings.client_from,
        written=written,
    )


def misfits(path: KeyPath, written: IssuerSettings) -> Iterator[Finding]:
    """Missing and foreign keys of an issuer, and what its preset finds wrong; without any it resolves."""
    preset = PRESETS[written.preset] if written.preset else None
    involved = ((*path, "preset"),)
    for key, message in _missing(written):
        yield Finding((*path, key), message, involved)
    known = (*preset.needs, *preset.knows) if preset else ()
    for key in _PRESET_KEYS:
        if key in written.model_fields_set and getattr(written, key) is not None and key not in known:
            users = [name for name, each in PRESETS.items() if key in (*each.needs, *each.knows)]
            yield Finding((*path, key), f"is for preset {' or '.join(users)} only", involved)
    for key, message in preset.check(written) if preset else ():
        yield Finding((*path, key), message, involved)


def _missing(written: IssuerSettings) -> Iterator[tuple[str, str]]:
    if written.issuer is not None:
        return
    if written.preset is None:
        yield "issuer", "missing; it has no default without a preset"
        return
    for key in PRESETS[written.preset].needs:
        if getattr(written, key) is None:
            yield key, f"missing; preset {written.preset} needs it, or an issuer"
