"""Server-side prepared statements over aiomysql's packets: values never become part of the text.

aiomysql itself interpolates parameters on the client. This adds the binary
protocol beside it: COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_CLOSE and
COM_RESET_CONNECTION (MySQL internals manual, "Prepared Statements"), and closes
two doors that aiomysql leaves open: plaintext where TLS was asked for, and
several statements in one text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiomysql.connection import Connection
from pymysql.constants import CLIENT
from pymysql.err import OperationalError
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from gateway.database.mysql_types import decoder_of, encode_parameter

_PREPARE: Final = 0x16
_EXECUTE: Final = 0x17
_CLOSE: Final = 0x19
_RESET: Final = 0x1F
_NO_CURSOR: Final = 0
_MORE_RESULTS: Final = 0x0008
CR_SSL: Final = 2026
"""The client error number for a failed or refused TLS handshake."""

Decoder = Callable[[MysqlPacket], Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the server holds for this connection."""

    id: int
    parameter_count: int
    fields: tuple[FieldDescriptorPacket, ...]


class Link(Connection):  # type: ignore[misc]
    """One connection to a MySQL or MariaDB server, speaking the binary protocol.

    Args:
        must_encrypt: refuse a server that does not offer TLS, before any credential is sent.
    """

    def __init__(self, *, must_encrypt: bool, **arguments: Any) -> None:
        super().__init__(charset="utf8mb4", autocommit=None, **arguments)
        self._must_encrypt = must_encrypt
        # Several statements in one text would let `commit; insert ...` leave a read-only transaction.
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS

    async def open(self) -> None:
        """Connect, encrypt and log in."""
        await self._connect()

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self._must_encrypt and not self.server_capabilities & CLIENT.SSL:
            raise OperationalError(CR_SSL, "the server offers no TLS")

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return self._writer is None or self._reader is None or self._reader.at_eof()

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB rather than MySQL."""
        return "mariadb" in self.server_version.lower()

    async def command(self, text: str) -> None:
        """Run a statement of our own that has no result set."""
        await self.query(text)

    async def prepare(self, text: str) -> Prepared:
        """Let the server parse a statement; one statement only."""
        await self._execute_command(_PREPARE, text)
        packet = await self._read_packet()
        _, statement_id, columns, parameters, _, _ = struct.unpack_from("<BIHHBH", packet.get_all_data())
        await self._read_fields(parameters)
        return Prepared(statement_id, parameters, tuple(await self._read_fields(columns)))

    async def _read_fields(self, count: int) -> list[FieldDescriptorPacket]:
        fields = [await self._read_packet(FieldDescriptorPacket) for _ in range(count)]
        if count:
            await self._read_packet()  # EOF
        return fields

    def forget(self, prepared: Prepared) -> None:
        """Release a statement on the server; it sends no answer."""
        if not self.is_closed:
            self._write_bytes(struct.pack("<iBI", 5, _CLOSE, prepared.id))

    async def execute(self, prepared: Prepared, values: Sequence[Any]) -> Execution:
        """Run a prepared statement; the rows are then read from what this returns."""
        head = struct.pack("<IBI", prepared.id, _NO_CURSOR, 1)
        await self._execute_command(_EXECUTE, head + _bind(values))
        packet = await self._read_packet()
        if packet.is_ok_packet():
            return Execution(self, (), (), affected=_affected(packet))
        count = packet.read_length_encoded_integer()
        fields = tuple(await self._read_fields(count))
        return Execution(self, fields, tuple(decoder_of(field) for field in fields), affected=0)

    async def reset(self) -> None:
        """Forget everything that the session holds: transaction, variables, locks, temporary tables."""
        await self._execute_command(_RESET, b"")
        await self._read_ok_packet()

    async def read_row(self, decoders: Sequence[Decoder]) -> list[Any] | None:
        """The next row, or None when there is none."""
        packet = await self._read_packet()
        if packet.is_eof_packet():
            _, _, status = struct.unpack_from("<BHH", packet.get_all_data())
            if status & _MORE_RESULTS:
                # A procedure answers with its results and a last status; nothing of it is ours to show.
                await self._drain()
            return None
        packet.advance(1)
        count = len(decoders)
        nulls = int.from_bytes(packet.read((count + 9) // 8), "little") >> 2
        return [None if nulls >> index & 1 else decode(packet) for index, decode in enumerate(decoders)]

    async def _drain(self) -> None:
        packet = await self._read_packet()
        while not packet.is_ok_packet():
            fields = await self._read_fields(packet.read_length_encoded_integer())
            decoders = [decoder_of(field) for field in fields]
            while await self.read_row(decoders) is not None:
                pass
            return


@dataclass(slots=True)
class Execution:
    """A statement under way: its columns, and the rows as they come.

    Attributes:
        affected: rows changed, when there is no result set.
    """

    link: Link
    fields: tuple[FieldDescriptorPacket, ...]
    decoders: tuple[Decoder, ...]
    affected: int

    async def next_row(self) -> list[Any] | None:
        """The next row, or None when there is none."""
        return await self.link.read_row(self.decoders) if self.fields else None


def _affected(packet: MysqlPacket) -> int:
    packet.advance(1)
    affected = packet.read_length_encoded_integer()
    return int(affected or 0)


def _bind(values: Sequence[Any]) -> bytes:
    """NULL bitmap, types and values of COM_STMT_EXECUTE."""
    if not values:
        return b""
    nulls = sum(1 << index for index, value in enumerate(values) if value is None)
    encoded = [encode_parameter(value) for value in values]
    bitmap = nulls.to_bytes((len(values) + 7) // 8, "little")
    return bitmap + b"\x01" + b"".join(kind for kind, _ in encoded) + b"".join(data for _, data in encoded)
