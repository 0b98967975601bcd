"""What the presets fill in: the peculiarities of four identity providers, unknown to the code that verifies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gateway.config.auth import IssuerSettings

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)
_HOST_AND_PATH: Final = re.compile(rf"{_HOST.pattern}(/[A-Za-z0-9._~-]+)*", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_MANY_TENANTS: Final = ("common", "organizations", "consumers")

Trouble = tuple[str, str]
"""A key, and what was expected there."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider.

    Attributes:
        needs: the keys that its issuer is made of, without a default.
        knows: the further keys that are for it.
        fill: the settings that it gives; whatever is written counts more.
        check: what is wrong with its keys.
    """

    needs: tuple[str, ...]
    knows: tuple[str, ...]
    fill: Callable[[IssuerSettings], dict[str, Any]]
    check: Callable[[IssuerSettings], Iterator[Trouble]]


def _entra(settings: IssuerSettings) -> dict[str, Any]:
    is_v1 = settings.version == "v1"
    filled: dict[str, Any] = {
        "algorithms": ("RS256",),
        # ID tokens carry neither, whatever their audience.
        "required_claims": ("appid",) if is_v1 else ("azp",),
        "scopes_from": ("scp", "roles"),
        # `sub` differs for each client; an object is the same for all of them (within its tenant).
        "subject_from": ("tid", "oid"),
        "client_from": ("appid",) if is_v1 else ("azp",),
    }
    if settings.tenant is not None:
        authority = f"https://login.microsoftonline.com/{settings.tenant.lower()}"
        filled |= {"issuer": f"{authority}/v2.0"}
        if is_v1:
            filled |= {"issuer": f"https://sts.windows.net/{settings.tenant.lower()}/"}
            filled |= {"discovery": authority, "advertised": f"{authority}/v2.0"}
    return filled


def _check_entra(settings: IssuerSettings) -> Iterator[Trouble]:
    tenant = settings.tenant
    if tenant is not None and tenant.lower() in _MANY_TENANTS:
        yield "tenant", "stands for many tenants, whose tokens differ in iss; give the id of one, an issuer for each"
    elif tenant is not None and not _GUID.fullmatch(tenant):
        yield "tenant", "expected the tenant's id, a GUID: iss carries it, never a domain name"
    if settings.issuer is not None and not {*_MANY_TENANTS, "{tenantid}"}.isdisjoint(settings.issuer.split("/")):
        yield "issuer", "stands for many tenants, whose tokens differ in iss; give the id of one, an issuer for each"


def _okta(settings: IssuerSettings) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "algorithms": ("RS256",),
        "required_claims": ("cid",),
        "scopes_from": ("scp",),
        # `sub` is the login name, which may pass to another person; applications have no `uid`.
        "subject_from": ("uid",),
        "client_from": ("cid",),
    }
    if settings.domain is not None:
        filled["issuer"] = f"https://{settings.domain}/oauth2/{settings.server}"
    return filled


def _check_okta(settings: IssuerSettings) -> Iterator[Trouble]:
    yield from _check_domain(settings, _HOST, "expected a host such as example.okta.com")
    if not _NAME.fullmatch(settings.server):
        yield "server", "expected the id of a custom authorization server, such as default"
    if settings.issuer is not None and "/oauth2/" not in urlsplit(settings.issuer).path:
        yield (
            "issuer",
            "expected https://HOST/oauth2/ID: tokens of the org authorization server are for Okta's own API",
        )


def _oci_iam(settings: IssuerSettings) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "issuer": "https://identity.oraclecloud.com/",
        # Tokens and discovery disagree about it.
        "trailing_slash": "any",
        "algorithms": ("RS256",),
        "required_claims": ("tok_type",),
        "scopes_from": ("scope",),
        # As with Okta: `sub` is the login name, and only users have an id.
        "subject_from": ("user_id",),
        "client_from": ("client_id",),
    }
    if settings.domain is not None:
        filled |= {"discovery": f"https://{settings.domain}", "advertised": f"https://{settings.domain}"}
    return filled


def _check_oci_iam(settings: IssuerSettings) -> Iterator[Trouble]:
    yield from _check_domain(settings, _HOST, "expected a host such as idcs-0123abcd.identity.oraclecloud.com")


def _keycloak(settings: IssuerSettings) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "required_claims": ("typ",),
        # The roles of the client that is the audience, not of every client.
        "scopes_from": (
            "scope",
            "realm_access.roles",
            *(f"resource_access.{audience}.roles" for audience in settings.audiences),
        ),
        "client_from": ("azp", "client_id"),
    }
    if settings.domain is not None and settings.realm is not None:
        filled["issuer"] = f"https://{settings.domain}/realms/{quote(settings.realm, safe='')}"
    return filled


def _check_keycloak(settings: IssuerSettings) -> Iterator[Trouble]:
    yield from _check_domain(settings, _HOST_AND_PATH, "expected a host such as sso.example.com, or host/path")
    if settings.realm is not None and "/" in settings.realm:
        yield "realm", "expected the name of a realm, without a slash"


def _check_domain(settings: IssuerSettings, form: re.Pattern[str], expected: str) -> Iterator[Trouble]:
    if settings.domain is not None and not form.fullmatch(settings.domain):
        yield "domain", f"{expected}, without a scheme or a slash at the end"


PRESETS: Final[Mapping[str, Preset]] = {
    "entra": Preset(("tenant",), ("version",), _entra, _check_entra),
    "okta": Preset(("domain",), ("server",), _okta, _check_okta),
    "oci-iam": Preset(("domain",), (), _oci_iam, _check_oci_iam),
    "keycloak": Preset(("domain", "realm"), (), _keycloak, _check_keycloak),
}
