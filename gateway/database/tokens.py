"""Access tokens as database passwords: what Entra ID, OCI IAM and their kind ask for."""

from __future__ import annotations

from gateway.config.logins import TokenSettings
from gateway.net.oauth import ClientCredentials
from gateway.net.tls import Sighting


class Tokens:
    """The current token of one database account.

    Args:
        settings: where it comes from. A client secret that is a file is read again when it was rotated.
        sighting: where the endpoint's certificate is remembered.
    """

    def __init__(self, settings: TokenSettings, sighting: Sighting) -> None:
        self._settings = settings
        self._sighting = sighting
        self._secret = ""
        self._source: ClientCredentials | None = None

    async def token(self) -> str:
        """A token good for at least a minute more.

        Raises:
            TokenError: the endpoint refused or could not be reached.
        """
        settings, secret = self._settings, self._settings.client_secret.get_secret_value()
        if self._source is None or secret != self._secret:
            self._secret = secret
            self._source = ClientCredentials(
                settings.url,
                settings.client_id,
                secret,
                scope=settings.scope or "",
                resource=settings.resource or "",
                ca=settings.ca,
                sighting=self._sighting,
            )
        return await self._source.token()

    def forget(self) -> None:
        """The database refused the token: fetch another next time."""
        if self._source is not None:
            self._source.forget()
