"""The doors for agents: `/mcp` with every tool, and `/mcp/{toolset}` for each group of tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.auth.refusal import Reason, refusal
from gateway.config.issuers import resolve
from gateway.config.models import GatewaySettings
from gateway.context import Principal
from gateway.server.audiences import PATH, path_of, toolset_resources
from gateway.server.snapshot import Snapshot
from gateway.tools.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One door.

    Attributes:
        toolset: its name; "" for the whole.
        resource: the URL clients use (RFC 8707).
        audiences: for each issuer what a token may be for here; empty where the verifier's word is enough.
        title: for people.
        about: what is told of its tools before the first call.
    """

    toolset: str
    resource: str
    audiences: Mapping[str, frozenset[str]]
    title: str | None = None
    about: str = ""

    @property
    def path(self) -> str:
        """Where it is on the listener."""
        return path_of(self.toolset)

    def catalog(self, snapshot: Snapshot) -> Catalog:
        """What is served here."""
        return snapshot.toolsets[self.toolset] if self.toolset else snapshot.catalog

    def check(self, principal: Principal) -> None:
        """Refuse a good token that was issued for another toolset.

        Raises:
            Unauthenticated: none of its audiences is served here.
        """
        if self.audiences and "aud" in principal.claims:
            audience = principal.claims["aud"]
            named = [audience] if isinstance(audience, str) else audience
            if self.audiences.get(principal.issuer, frozenset()).isdisjoint(named):
                raise refusal(Reason.AUDIENCE)


def endpoints(settings: GatewaySettings, base_url: str) -> Iterable[Endpoint]:
    """Every door of a configuration, the whole first.

    Args:
        settings: the configuration.
        base_url: how clients reach the listener, without a path.
    """
    foreign = frozenset(toolset_resources(settings))

    def audiences(own: str) -> Mapping[str, frozenset[str]]:
        """A toolset's URL is good at that toolset alone, even where an issuer's settings name it."""
        here = foreign & {own}
        trusted = map(resolve, settings.auth.issuers)
        each = {issuer.issuer: (frozenset(issuer.audiences) - foreign) | here for issuer in trusted}
        return MappingProxyType(each if foreign else {})

    whole = base_url + PATH
    yield Endpoint("", whole, audiences(whole))
    for name, toolset in settings.toolsets.items():
        own = base_url + path_of(name)
        about = " ".join(filter(None, (toolset.title and f"{toolset.title}:", toolset.description)))
        yield Endpoint(name, own, audiences(own), toolset.title, about)


def find_endpoint(settings: GatewaySettings, base_url: str, toolset: str) -> Endpoint | None:
    """The door of one toolset, the whole when it is empty; None when there is none."""
    return next((each for each in endpoints(settings, base_url) if each.toolset == toolset), None)
