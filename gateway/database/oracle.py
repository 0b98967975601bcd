"""Oracle by python-oracledb in its thin mode: how to reach it, and with what login."""

from __future__ import annotations

import oracledb

from gateway.config.sources import OracleSettings
from gateway.database import oracle_errors as errors
from gateway.database import oracle_outputs as outputs
from gateway.database import tls
from gateway.database.failures import failure
from gateway.database.oracle_binding import name_of
from gateway.database.oracle_connection import OracleConnection
from gateway.database.oracle_exact import Query
from gateway.database.oracle_link import check_driver, open_first
from gateway.database.oracle_tokens import login_of
from gateway.errors import Code, ToolError
from gateway.net.oauth import TokenError
from gateway.net.tls import Sighting


class OracleEngine:
    """One Oracle database with one account.

    Args:
        settings: where it is.
        name: the source's name, in the server's views of sessions.

    Raises:
        DriverUnfit: the driver that is installed may not be used.
    """

    dialect = "oracle"

    def __init__(self, settings: OracleSettings, name: str = "") -> None:
        check_driver(oracledb.__version__)
        self._settings = settings
        self._name = name
        self.sighting, self.token_sighting = Sighting(), Sighting()
        self._login = login_of(settings, self.token_sighting)
        self._queries: dict[str, Query] = {}

    def placeholder(self, position: int, name: str) -> str:
        """A bind variable of our own naming; one name has one variable, however often it is used."""
        return f":{name_of(position)}"

    def output(self, position: int) -> str:
        """The bind variable of an output."""
        return f":{outputs.name_of(position)}"

    async def connect(self) -> OracleConnection:
        """Open a connection: TLS, login, session settings.

        Raises the driver's own exceptions, or TlsUnusable.
        """
        try:
            link = await open_first(self._settings, self._name, await self._login.now(), self.sighting)
        except Exception as error:
            if self.translate(error).code is Code.LOGIN_FAILED:
                self._login.refused()
            raise
        connection = OracleConnection(link, self._settings, self._name, self._queries)
        try:
            await connection.prepare_session()
        except BaseException:
            connection.abort()
            raise
        return connection

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception by its number, or by its class where nobody gave one."""
        if isinstance(error, tls.TlsUnusable | TokenError):
            return failure(Code.SOURCE_UNAVAILABLE, error.message)
        return errors.translate(error)
