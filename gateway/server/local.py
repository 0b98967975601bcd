"""Who a client on the gateway's own machine is: by a token, or by the operating system under an explicit policy."""

from __future__ import annotations

import os
import pwd
from types import MappingProxyType
from typing import Final

from gateway.config.models import GatewaySettings
from gateway.context import Principal
from gateway.errors import Unauthenticated
from gateway.server.endpoint import Endpoint
from gateway.server.snapshot import Snapshot

ISSUER: Final = "local"
"""The issuer of who was told by the operating system; no URL, as those of tokens are."""


def user_name() -> str:
    """The user whom this process runs as, as the operating system and no variable says; a number if it has no name."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class Identity:
    """The one client of a process.

    Args:
        token: an access token; "" where the operating system's word is to do.
        user: whom the process runs as.
    """

    def __init__(self, token: str, user: str) -> None:
        self._token = token
        self._user = user

    async def principal(self, snapshot: Snapshot, endpoint: Endpoint) -> Principal:
        """Who asks, with everything that the scopes imply; asked for every request, since tokens expire.

        Args:
            snapshot: the configuration of the moment.
            endpoint: the door that it came through.

        Raises:
            Unauthenticated: the token does not verify, or there is neither a token nor a policy for this user.
            IdentityProviderUnavailable: nothing to verify it with yet.
        """
        if self._token:
            principal = snapshot.verifier.known(self._token) or await snapshot.verifier.verify(self._token)
            endpoint.check(principal)
        else:
            principal = await self._local(snapshot)
        return snapshot.scopes.enlarge(principal)

    async def _local(self, snapshot: Snapshot) -> Principal:
        settings: GatewaySettings = snapshot.settings
        policy = settings.stdio
        if policy is None and settings.auth.mode == "none":
            return await snapshot.verifier.verify("")
        if policy is None or not {self._user, "*"} & set(policy.users):
            raise Unauthenticated(
                "No token, and no rule for this user: set GATEWAY_TOKEN, or list the user in stdio.users.",
                reason="no_token",
                detail=f"user {self._user}",
            )
        claims = MappingProxyType({**policy.claims, "iss": ISSUER, "sub": self._user})
        return Principal(ISSUER, self._user, "", frozenset(policy.scopes), claims)
