"""Server-side prepared statements over aiomysql's packets: values never become part of the text.

aiomysql itself interpolates parameters on the client. This adds the binary
protocol beside it: COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_CLOSE and
COM_RESET_CONNECTION (MySQL internals manual, "Prepared Statements"), and closes
doors that aiomysql leaves open: plaintext where TLS was asked for, passwords in
the clear on an unencrypted link, and several statements in one text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiomysql.connection import Connection
from pymysql.constants import CLIENT
from pymysql.err import OperationalError

from gateway.database.mysql_fields import Field, Packet
from gateway.database.mysql_types import Decoder, decoder_of

_QUERY: Final = 0x03
_PREPARE: Final = 0x16
_EXECUTE: Final = 0x17
_CLOSE: Final = 0x19
_RESET: Final = 0x1F
_NO_CURSOR: Final = 0
_MORE_RESULTS: Final = 0x0008
_GREETING: Final = struct.Struct("<I5x23x")
_EXTENDED_METADATA: Final = struct.pack("<I", 1 << 3)
"""MARIADB_CLIENT_EXTENDED_METADATA, in the last bytes of the greeting (MariaDB, "Handshake Response Packet")."""
_CHUNK: Final = 1 << 16
_ERROR: Final = 0xFF
_EOF: Final = 0xFE
_EOF_SIZE: Final = 4 + 9
CR_LOST: Final = 2013
"""The client error number for a connection that ended during a query."""
CR_SSL: Final = 2026
"""The client error number for a failed or refused TLS handshake."""
CR_PLUGIN: Final = 2059
"""The client error number for a login method that we do not use."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the server holds for this connection."""

    id: int
    parameter_count: int
    fields: tuple[Field, ...]


class Link(Connection):  # type: ignore[misc]
    """One connection to a MySQL or MariaDB server, speaking the binary protocol.

    Args:
        must_encrypt: refuse a server that does not offer TLS, before any credential is sent.
    """

    def __init__(self, *, must_encrypt: bool, password: str, **arguments: Any) -> None:
        # The driver encodes passwords as Latin-1; servers expect the bytes of UTF-8.
        password = password.encode("utf-8").decode("latin-1")
        super().__init__(charset="utf8mb4", autocommit=None, password=password, **arguments)
        self._must_encrypt = must_encrypt
        # Several statements in one text would let `commit; insert ...` leave a read-only transaction.
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        # So that `affected` counts the rows an update found, as every other engine does.
        self.client_flag |= CLIENT.FOUND_ROWS

    async def open(self) -> None:
        """Connect, encrypt and log in."""
        await self._connect()

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self._must_encrypt and not self.server_capabilities & CLIENT.SSL:
            raise OperationalError(CR_SSL, "the server offers no TLS")
        if self.is_mariadb:
            self.client_flag &= ~CLIENT.LONG_PASSWORD  # MariaDB: "this client knows MariaDB's own capabilities"

    async def _request_authentication(self) -> None:
        try:
            await super()._request_authentication()
        except BaseException:
            self.close()
            raise

    def write_packet(self, payload: bytes) -> None:
        """Send a packet; MariaDB's own capabilities ride in the reserved bytes of the greeting."""
        greeting = payload[: _GREETING.size]
        is_greeting = len(greeting) == _GREETING.size and greeting[:4] == struct.pack("<I", self.client_flag)
        if is_greeting and self.is_mariadb:
            payload = greeting[:-4] + _EXTENDED_METADATA + payload[_GREETING.size :]
        super().write_packet(payload)

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        if plugin_name in (b"mysql_clear_password", b"mysql_old_password") and not self._secure:
            raise OperationalError(CR_PLUGIN, f"the server asks for {plugin_name.decode()} on an unencrypted link")
        return await super()._process_auth(plugin_name, auth_packet)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone."""
        if self._writer is None or self._reader is None:
            return True
        return bool(self._reader.at_eof() or self._reader.exception() or self._writer.is_closing())

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB rather than MySQL."""
        return "mariadb" in self.server_version.lower()

    def close(self) -> None:
        """Close the socket at once: with TLS a farewell would keep it open for as long as the peer likes."""
        if self._writer is not None:
            self._writer.transport.abort()
        super().close()

    async def command(self, text: str) -> None:
        """Run a statement of our own that has no result set."""
        await self._execute_command(_QUERY, text)
        await self._read_ok_packet()

    async def prepare(self, text: str) -> Prepared:
        """Let the server parse a statement; one statement only."""
        await self._execute_command(_PREPARE, text)
        packet = await self._read_packet()
        _, statement_id, columns, parameters, _, _ = struct.unpack_from("<BIHHBH", packet.get_all_data())
        await self._read_fields(parameters)
        return Prepared(statement_id, parameters, tuple(await self._read_fields(columns)))

    async def _read_packet(self, packet_type: type[Packet] = Packet) -> Any:
        return await super()._read_packet(packet_type)

    async def _read_fields(self, count: int) -> list[Field]:
        fields = [await self._read_packet(Field) for _ in range(count)]
        if count:
            await self._read_packet()  # EOF
        return fields

    def forget(self, prepared: Prepared) -> None:
        """Release a statement on the server; it sends no answer."""
        if not self.is_closed:
            self._write_bytes(struct.pack("<iBI", 5, _CLOSE, prepared.id))

    async def execute(self, prepared: Prepared, parameters: bytes) -> Execution:
        """Run a prepared statement; the rows are then read from what this returns."""
        head = struct.pack("<IBI", prepared.id, _NO_CURSOR, 1)
        await self._execute_command(_EXECUTE, head + parameters)
        packet = await self._read_packet()
        if packet.is_ok_packet():
            return Execution(self, (), (), affected=_affected(packet))
        fields = tuple(await self._read_fields(packet.read_length_encoded_integer()))
        return Execution(self, fields, tuple(decoder_of(field) for field in fields), affected=0)

    async def reset(self) -> None:
        """Forget everything that the session holds: transaction, variables, locks, temporary tables."""
        await self._execute_command(_RESET, b"")
        await self._read_ok_packet()

    async def read_row(self, decoders: Sequence[Decoder]) -> list[Any] | None:
        """The next row, or None when there is none."""
        packet = await self._read_packet()
        if packet.is_eof_packet():
            if packet.status & _MORE_RESULTS:
                await self._drain()
            return None
        packet.advance(1)
        count = len(decoders)
        nulls = int.from_bytes(packet.read((count + 9) // 8), "little") >> 2
        return [None if nulls >> index & 1 else decode(packet) for index, decode in enumerate(decoders)]

    async def skip_rows(self) -> None:
        """Read a result to its end without looking at the rows, of which megabytes may be on their way.

        Raises:
            OperationalError: the end was not the last thing that the server sent.
        """
        data = b""
        while True:
            chunk = await self._reader.read(_CHUNK)
            data += chunk
            position = 0
            while len(data) >= (end := position + 4 + int.from_bytes(data[position : position + 3], "little")) > 4:
                mark = data[position + 4]
                if mark == _ERROR or (mark == _EOF and end - position < _EOF_SIZE):
                    if end < len(data) or (mark == _EOF and data[end - 2] & _MORE_RESULTS):
                        raise OperationalError(CR_LOST, "more follows than the rows that were skipped")
                    self._next_seq_id = (data[position + 3] + 1) % 256
                    return
                position = end
            data = data[position:]
            if not chunk:
                raise OperationalError(CR_LOST, "the connection ended within a result")

    async def _drain(self) -> None:
        """Read what a procedure sends beyond its first result: further results and a last status."""
        while not (packet := await self._read_packet()).is_ok_packet():
            await self._read_fields(packet.read_length_encoded_integer())
            while not (packet := await self._read_packet()).is_eof_packet():
                pass


@dataclass(slots=True)
class Execution:
    """A statement under way: its columns, and the rows as they come.

    Attributes:
        affected: rows found and changed, when there is no result set.
    """

    link: Link
    fields: tuple[Field, ...]
    decoders: tuple[Decoder, ...]
    affected: int

    async def next_row(self) -> list[Any] | None:
        """The next row, or None when there is none."""
        return await self.link.read_row(self.decoders) if self.fields else None


def _affected(packet: Packet) -> int:
    packet.advance(1)
    affected = packet.read_length_encoded_integer()
    return int(affected or 0)
