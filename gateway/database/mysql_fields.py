"""Packets of MySQL and MariaDB with what the driver leaves unread: SQLSTATE, status, MariaDB's own type names."""

from __future__ import annotations

import struct
from typing import Any, Final

from pymysql.err import MySQLError
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

_FIXED: Final = 13
"""Bytes of a column's fixed part, with its length before it."""
_TYPE: Final = 0
_FORMAT: Final = 1


class Packet(MysqlPacket):  # type: ignore[misc]
    """A packet whose error carries its SQLSTATE as `sqlstate`."""

    def raise_for_error(self) -> None:
        """Raise the server's error."""
        data = self.get_all_data()
        try:
            super().raise_for_error()
        except MySQLError as error:
            error.sqlstate = data[4:9].decode("ascii", "replace") if data[3:4] == b"#" else ""
            raise

    @property
    def status(self) -> int:
        """The server's status in an EOF packet."""
        return int(struct.unpack_from("<BHH", self.get_all_data())[2])


class Field(FieldDescriptorPacket, Packet):  # type: ignore[misc]
    """A column's description; with MariaDB's extended metadata where the server sent it.

    Attributes:
        extended_type: MariaDB's name of a type that the protocol does not number, such as `uuid` or `point`.
        extended_format: `json` for text that is a JSON document.
    """

    def _parse_field_descriptor(self, encoding: str) -> None:
        self.read_length_coded_string()  # catalog
        self.read_length_coded_string()  # schema
        self.read_length_coded_string()  # table, as named in the statement
        self.read_length_coded_string()  # table
        self.name = self.read_length_coded_string().decode(encoding)
        self.read_length_coded_string()  # column
        extended = self._extended()
        self.extended_type = extended.get(_TYPE, "")
        self.extended_format = extended.get(_FORMAT, "")
        self.charsetnr, self.length, self.type_code, self.flags, self.scale = self.read_struct("<xHIBHBxx")

    def _extended(self) -> dict[int, str]:
        """MariaDB, "Result Set Packets", extended metadata: pairs of a byte and a length-encoded string."""
        found: dict[int, str] = {}
        left: Any = len(self.get_all_data()) - self._position
        if left <= _FIXED:
            return found
        chunk = self.read_length_coded_string()
        while chunk:
            key, size = chunk[0], chunk[1]
            found[key] = chunk[2 : 2 + size].decode("ascii")
            chunk = chunk[2 + size :]
        return found
