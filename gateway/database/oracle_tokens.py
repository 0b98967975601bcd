"""How the gateway proves to Oracle who it is: a password, an access token, or an OCI IAM token with its key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.config.logins import OciTokenSettings
from gateway.config.sources import OracleSettings
from gateway.database.tokens import Tokens
from gateway.net.oauth import TokenError
from gateway.net.oci import ApiKey, BoundToken, DatabaseTokens, end_of
from gateway.net.tls import Sighting

_FILES: Final = ("token", "oci_db_key.pem")
"""What `oci iam db-token get` writes into its folder."""


class Login(Protocol):
    """Where a source's credentials come from."""

    async def now(self) -> dict[str, Any]:
        """The driver's arguments for logging in now: a file may have changed, a token may have expired.

        Raises:
            TokenError: there is no token to be had.
        """

    def refused(self) -> None:
        """The database refused what it was given."""


def login_of(settings: OracleSettings, sighting: Sighting) -> Login:
    """The login that a source's settings say; the certificate of whoever gives tokens is remembered in `sighting`."""
    if settings.token is not None:
        return _Bearer(Tokens(settings.token, sighting))
    if settings.oci_token is not None:
        return _Signed(settings.oci_token, sighting)
    return _Folder(settings.token_folder) if settings.token_folder is not None else _Password(settings)


class _Password:
    def __init__(self, settings: OracleSettings) -> None:
        self._settings = settings

    async def now(self) -> dict[str, Any]:
        password = self._settings.password
        return {"user": self._settings.user, "password": password.get_secret_value() if password else None}

    def refused(self) -> None:
        """The file is read again anyway."""


class _Bearer:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def now(self) -> dict[str, Any]:
        return {"access_token": await self._tokens.token()}

    def refused(self) -> None:
        self._tokens.forget()


class _Signed:
    """An OCI IAM token that is asked for with an API key, which is read again when it was rotated."""

    def __init__(self, settings: OciTokenSettings, sighting: Sighting) -> None:
        self._settings = settings
        self._sighting = sighting
        self._pem = ""
        self._tokens: DatabaseTokens | None = None

    async def now(self) -> dict[str, Any]:
        settings, pem = self._settings, self._settings.key.get_secret_value()
        if self._tokens is None or pem != self._pem:
            self._pem = pem
            api_key = ApiKey(settings.tenancy, settings.user, settings.fingerprint, pem)
            self._tokens = DatabaseTokens(settings.endpoint, api_key, settings.scope, sighting=self._sighting)
        return _bound(await self._tokens.token())

    def refused(self) -> None:
        if self._tokens is not None:
            self._tokens.forget()


class _Folder:
    """An OCI IAM token and its key as files that something else renews; they are read for each connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def now(self) -> dict[str, Any]:
        try:
            token, key = ((self._folder / name).read_text(encoding="ascii").strip() for name in _FILES)
        except (OSError, ValueError) as error:
            raise TokenError(f"token_folder: {self._folder}: {error}; it holds {' and '.join(_FILES)}") from error
        expires_at = end_of(token)
        if expires_at <= time.time():
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at))
            raise TokenError(
                f"token_folder: the token in {self._folder} expired at {when}; does `oci iam db-token get`,"
                " or whatever renews it, still run?"
            )
        return _bound(BoundToken(token, key))

    def refused(self) -> None:
        """The files are read again anyway."""


def _bound(token: BoundToken) -> dict[str, Any]:
    return {"access_token": (token.token, token.key)}
