"""One connection, from the listener's answer to the log-off."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jwt.algorithms import RSAAlgorithm

from tests.servers.oracle import values, wire
from tests.servers.oracle.documents import oson, vector
from tests.servers.oracle.engine import CANCELLED, NO_DATA, Refusal, Result, Session, bind_names, refusal
from tests.servers.oracle.faults import Faults
from tests.servers.oracle.login import Verifier
from tests.servers.oracle.values import CURSOR, DOCUMENTS, JSON, LOBS, Shape
from tests.servers.oracle.wire import Broken, Gone, Packets, Reader, chunks, sized, ub

_PARSE, _DEFINE, _EXECUTE, _FETCH, _COMMIT, _DESCRIBE = 0x01, 0x10, 0x20, 0x40, 0x100, 0x20000
_LOB_READ, _LOB_LENGTH = 2, 1
_OUT, _IN, _BOTH = 16, 32, 48
TOKEN_AUDIENCE: Final = "https://database.test"
_RELEASE: Final = 3 << 16


@dataclass
class Cursor:
    """A statement that the server keeps."""

    sql: str
    binds: list[Shape] = field(default_factory=list)
    shapes: tuple[Shape, ...] = ()
    defines: list[Shape] = field(default_factory=list)
    rows: Iterator[Sequence[Any]] = field(default_factory=lambda: iter(()))
    count: int = 0

    @property
    def has_lobs(self) -> bool:
        return any(shape.kind in LOBS | DOCUMENTS for shape in self.shapes)

    @property
    def is_block(self) -> bool:
        return bool(re.match(r"\s*(begin|declare|call)\b", self.sql, re.IGNORECASE))


class Dialogue:
    """Serves one client until it leaves."""

    def __init__(self, raw: socket.socket, settings: dict[str, Any], faults: Faults) -> None:
        self._packets = Packets(raw, self._stop, faults.flowing)
        self._faults = faults
        self._path = Path(settings["path"])
        self._users: dict[str, Any] = settings["users"]
        self._service: str = settings["service"]
        self._version: int = settings["version"]
        self._session: Session | None = None
        self._cursors: dict[int, Cursor] = {}
        self._numbers = itertools.count(1)
        self._lobs: list[bytes] = []
        self._functions: dict[int, Callable[[Reader], bytes]] = {
            94: self._execute,
            78: self._again,
            4: self._again,
            5: self._fetch_more,
            96: self._lob,
            147: lambda _: self._status(),
            14: self._commit,
            15: self._rollback,
            9: lambda _: self._status(),
        }

    @property
    def session(self) -> Session:
        assert self._session is not None
        return self._session

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def run(self) -> None:
        """Listen, log in, serve."""
        try:
            if not self._accept():
                return
            self._packets.is_large = True
            self._packets.start()
            self._negotiate()
            if self._log_in():
                self._serve()
        except Gone:
            pass
        finally:
            if self._session is not None:
                self._session.db.close()

    def _accept(self) -> bool:
        _, body = self._packets.read()
        length, offset = struct.unpack(">HH", body[16:20])
        start = offset - 8
        text = body[start : start + length] if len(body) >= start + length else self._packets.read()[1][2:]
        asked = re.search(r"SERVICE_NAME=([^)]*)", text.decode(), re.IGNORECASE)
        service = asked[1] if asked else ""
        if self._faults.refusal is not None or service != self._service:
            words = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={self._faults.refusal or 12514}))".encode()
            self._packets.send(wire.REFUSE, b"\x22\0" + struct.pack(">H", len(words)) + words)
            return False
        accept = struct.pack(">HH10xB9xI5xI", 318, 0, 0, wire.SDU, 0)
        self._packets.send(wire.ACCEPT, accept)
        return True

    def _request(self) -> Reader:
        while True:
            kind, body = self._packets.next()
            if kind == wire.MARKER:
                self._break()
            elif struct.unpack(">H", body[:2])[0] & wire.END_OF_FILE:
                raise Gone
            else:
                return Reader(self._packets, body[2:])

    def _negotiate(self) -> None:
        self._request()
        element = bytes(9) + struct.pack(">H", 2000)
        compiled = bytearray(55)
        compiled[7] = 13
        runtime = bytearray(11)
        runtime[6] = 4
        banner = b"\1\6\0stand-in\0" + struct.pack("<HBH", 873, 0, 0) + struct.pack(">H", len(element)) + element
        self._packets.send_data(banner + chunks(bytes(compiled)) + chunks(bytes(runtime)))
        self._request()
        self._packets.send_data(b"\2\0\0")

    def _log_in(self) -> bool:
        user, first = self._authentication()
        if "AUTH_TOKEN" in first:
            return self._log_in_with_token(first)
        password = self._users.get(user.upper(), {}).get("password")
        verifier = Verifier(password if password is not None else "\0")
        self._packets.send_data(self._pairs(verifier.challenge()) + self._status())
        _, answer = self._authentication()
        proxy = answer.get("PROXY_CLIENT_NAME", "")
        proof = verifier.proof(answer)
        if proof is None or password is None:
            self._packets.send_data(self._error(1017, "ORA-01017: invalid username/password; logon denied"))
            return False
        refused = self._users[user.upper()].get("refused")
        if refused or (proxy and proxy.upper() not in self._users[user.upper()].get("proxies", ())):
            number = refused or 28150
            self._packets.send_data(self._error(number, f"ORA-{number:05d}: not allowed to log in"))
            return False
        if self._users[user.upper()].get("is_unproved"):  # as somebody in between would answer
            proof = proof[::-1]
        self._welcome(user, proxy, answer, [("AUTH_SVR_RESPONSE", proof, 0)])
        return True

    def _log_in_with_token(self, answer: dict[str, str]) -> bool:
        """Take a token for this database, unless it was revoked; its signature is not what is tested.

        A token with a key (OCI IAM) needs a proof that its key is there, made for this service and moment.
        """
        payload = answer["AUTH_TOKEN"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        revoked = self._path.with_name("revoked")
        is_revoked = revoked.exists() and answer["AUTH_TOKEN"] in revoked.read_text().split()
        is_ours = claims.get("aud") == TOKEN_AUDIENCE or claims.get("scope", "").startswith("urn:oracle:db::")
        if not is_ours or is_revoked or claims["exp"] < time.time() or not self._is_proved(claims, answer):
            self._packets.send_data(self._error(1017, "ORA-01017: invalid token; logon denied"))
            return False
        self._welcome(claims["sub"], "", answer, [])
        return True

    def _is_proved(self, claims: dict[str, Any], answer: dict[str, str]) -> bool:
        if "jwk" not in claims:
            return "AUTH_SIGNATURE" not in answer
        head = dict(line.split(": ", 1) for line in answer["AUTH_HEADER"].split("\n"))
        age = abs(parsedate_to_datetime(head["date"]).timestamp() - time.time())
        if head["(request-target)"] != self._service or age > 300:
            return False
        key = RSAAlgorithm.from_jwk(claims["jwk"])
        assert isinstance(key, rsa.RSAPublicKey)
        signature = base64.b64decode(answer["AUTH_SIGNATURE"])
        try:
            key.verify(signature, answer["AUTH_HEADER"].encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def _welcome(self, user: str, proxy: str, answer: dict[str, str], proof: list[tuple[str, str, int]]) -> None:
        self._session = Session(self._path, user, proxy, self._cursors)
        self._session.known["driver"] = answer.get("SESSION_CLIENT_DRIVER_NAME", "")
        self._session.known["connection_class"] = answer.get("AUTH_KPPL_CONN_CLASS")
        pairs = [
            ("AUTH_VERSION_NO", str(self._version << 24 | _RELEASE), 0),
            ("AUTH_SESSION_ID", "1", 0),
            ("AUTH_SERIAL_NUM", "1", 0),
            ("AUTH_MAX_OPEN_CURSORS", "300", 0),
            ("AUTH_SC_SERVICE_NAME", self._service, 0),
            ("AUTH_INSTANCENAME", "standin", 0),
            *proof,
        ]
        self._packets.send_data(self._pairs(pairs) + self._status())

    def _authentication(self) -> tuple[str, dict[str, str]]:
        reader = self._request()
        reader.skip("bbb")
        has_user = reader.byte()
        reader.skip("uub")
        count = reader.ub()
        reader.skip("bb")
        user = (reader.chunks() or b"").decode() if has_user else ""
        pairs = {}
        for _ in range(count):
            key, value = reader.sized().decode(), reader.sized().decode()
            reader.ub()
            pairs[key] = value
        return user, pairs

    @staticmethod
    def _pairs(pairs: list[tuple[str, str, int]]) -> bytes:
        told = (sized(key.encode()) + sized(value.encode()) + ub(flags) for key, value, flags in pairs)
        return b"\x08" + ub(len(pairs)) + b"".join(told)

    def _serve(self) -> None:
        while True:
            reader = self._request()
            try:
                function, answer = self._answer(reader)
            except Broken:
                self._break()
                continue
            if self._packets.is_breaking:
                continue  # the marker is next, and says so
            self._packets.send_data(answer)
            if function == 9:
                return

    def _break(self) -> None:
        """Answer a break: a marker, then after the client's reset another, then error 1013."""
        self._packets.send_marker(wire.BREAK)
        while True:
            kind, body = self._packets.next()
            if kind == wire.MARKER and body[2] == wire.RESET:
                break
        self._packets.is_breaking = False
        self.session.is_stopped = False
        self._packets.send_marker(wire.RESET)
        self._packets.send_data(self._error(CANCELLED, "ORA-01013: user requested cancel of current operation"))

    def _answer(self, reader: Reader) -> tuple[int, bytes]:
        while (kind := reader.byte()) == 17:
            self._piggyback(reader)
        assert kind == 3, kind
        function = reader.byte()
        reader.byte()
        self.session.calls += 1
        try:
            return function, self._functions[function](reader)
        except (Refusal, sqlite3.Error) as error:
            told = error if isinstance(error, Refusal) else refusal(error, "")
            return function, self._error(told.number, told.text, position=told.position)

    def _piggyback(self, reader: Reader) -> None:
        function = reader.byte()
        reader.byte()
        if function == 105:
            reader.byte()
            for _ in range(reader.ub()):
                self._cursors.pop(reader.ub(), None)
        elif function == 135:
            self._end_to_end(reader)
        elif function == 176:
            reader.ub()
        elif function == 152:
            reader.byte()
            self.session.known["current_schema"] = reader.sized().decode()
        elif function == 96:
            self._free_lobs(reader)
        else:
            raise AssertionError(function)

    def _end_to_end(self, reader: Reader) -> None:
        reader.skip("bbu")
        names = ["client_identifier", "module", "action", "", "client_info", "", "", "dbop"]
        present = [(name, reader.byte(), reader.ub()) for name in names[:3]]
        reader.skip("bubu")
        present.append((names[4], reader.byte(), reader.ub()))
        reader.skip("bubu")
        present.append((names[7], reader.byte(), reader.ub()))
        for name, is_told, length in present:
            if is_told:
                self.session.known[name] = (reader.chunks() or b"").decode() if length else None

    def _free_lobs(self, reader: Reader) -> None:
        reader.byte()
        size = reader.ub()
        reader.skip("buuubbbubuuubbububu")
        reader.raw(size)

    def _status(self) -> bytes:
        return b"\x09" + ub(2 if self._session and self.session.is_in_transaction else 0) + ub(0)

    def _error(self, number: int, text: str = "", *, cursor: int = 0, count: int = 0, position: int = 0) -> bytes:
        in_transaction = self._session is not None and self.session.is_in_transaction
        head = ub(2 if in_transaction else 0) + ub(0) + ub(0) + ub(min(number, 65535)) + ub(0) + ub(0) + ub(cursor)
        rowid = ub(0) + ub(0) + b"\0" + ub(0) + ub(0)
        body = ub(position) + bytes(6) + rowid + ub(0) + b"\0\0" + ub(0) + ub(0) + ub(0) + ub(0) + ub(0) + ub(0)
        return b"\x04" + head + body + ub(number) + ub(count) + (chunks(text.encode()) if number else b"")

    def _commit(self, reader: Reader) -> bytes:
        self.session.commit()
        return self._status()

    def _rollback(self, reader: Reader) -> bytes:
        self.session.rollback()
        return self._status()

    # Statements

    def _execute(self, reader: Reader) -> bytes:
        options, number = reader.ub(), reader.ub()
        reader.skip("bububbu")
        wanted = reader.ub()
        reader.skip("ub")
        binds = reader.ub()
        reader.skip("bbbbbb")
        defines = reader.ub()
        reader.skip("ubbbubuubub" + "bubub" + "bu")
        sql = (reader.chunks() or b"").decode() if options & _PARSE else ""
        iterations = [reader.ub() for _ in range(13)][1]
        if options & _PARSE:
            number = number or next(self._numbers)
            self._cursors[number] = Cursor(sql)
        cursor = self._cursors[number]
        if options & _DEFINE:
            cursor.defines = [values.read_shape(reader) for _ in range(defines)]
            return self._error(0, cursor=number)
        bound = {}
        if binds:
            cursor.binds = [values.read_shape(reader) for _ in range(binds)]
            bound = self._binds(reader, cursor) if iterations or not cursor.is_block else {}
        if options & _DESCRIBE:
            shapes = self.session.describe(cursor.sql)
            return self._described(shapes) + self._error(0, cursor=number)
        if not options & _EXECUTE:
            if options & _FETCH:
                return self._rows(number, wanted)
            self._check(cursor.sql)
            return self._error(0, cursor=number)
        return self._ran(
            number, bound, wanted if options & _FETCH else 0, is_new=bool(options & _PARSE), options=options
        )

    def _check(self, sql: str) -> None:
        """Parse without running: SQLite's EXPLAIN compiles, and runs nothing."""
        if re.match(r"\s*(insert|update|delete|merge)\b", sql, re.IGNORECASE):
            self.session.run(f"explain {sql}", dict.fromkeys(bind_names(sql)))

    def _binds(self, reader: Reader, cursor: Cursor) -> dict[str, Any]:
        names = list(dict.fromkeys(bind_names(cursor.sql))) if cursor.is_block else bind_names(cursor.sql)
        assert reader.byte() == 7
        is_long = [shape.size > 32767 and not cursor.is_block for shape in cursor.binds]
        bound: dict[str, Any] = {}
        for turn in (False, True):
            for name, shape, is_last in zip(names, cursor.binds, is_long, strict=True):
                if is_last is turn:
                    bound[name] = values.read_value(reader, shape)
        written = {match: bound[match.upper()] for match in re.findall(r":(\w+)", cursor.sql) if match.upper() in bound}
        return bound | written

    def _again(self, reader: Reader) -> bytes:
        number, wanted = reader.ub(), reader.ub()
        reader.skip("uu")
        cursor = self._cursors[number]
        bound = self._binds(reader, cursor) if cursor.binds else {}
        return self._ran(number, bound, wanted, is_new=False)

    def _ran(self, number: int, bound: dict[str, Any], wanted: int, *, is_new: bool, options: int = 0) -> bytes:
        cursor = self._cursors[number]
        self.session.known["bind_types"] = " ".join(str(shape.kind) for shape in cursor.binds)
        result = self.session.run(cursor.sql, bound)
        if options & _COMMIT:
            self.session.commit()
        if cursor.is_block and (cursor.binds or result.out):
            return self._given_out(cursor, result) + self._error(0, cursor=number)
        if not result.shapes:
            return self._error(0, cursor=number, count=result.affected)
        cursor.rows, cursor.count = result.rows, 0
        head = b""
        if is_new or cursor.shapes != result.shapes:
            cursor.shapes, head = result.shapes, self._described(result.shapes)
        if cursor.has_lobs and not cursor.defines:
            return head + self._error(0, cursor=number)
        return head + self._rows(number, wanted)

    @staticmethod
    def _described(shapes: Sequence[Shape], *, is_whole: bool = True) -> bytes:
        columns = b"".join(shape.described() for shape in shapes)
        body = ub(0) + ub(len(shapes)) + (b"\0" if shapes else b"") + columns
        return (b"\x10\0" if is_whole else b"") + body + sized(b"") + ub(0) * 4 + sized(b"")

    def _rows(self, number: int, wanted: int) -> bytes:
        cursor = self._cursors[number]
        shapes = cursor.defines or cursor.shapes
        parts = [b"\x06" + b"\0" + ub(0) * 5 + sized(b"")]
        end = 0
        for _ in range(wanted):
            try:
                row = next(cursor.rows)
            except StopIteration:
                end = NO_DATA
                break
            except Exception as error:
                raise Refusal(CANCELLED, f"user requested cancel of current operation ({error})") from error
            cursor.count += 1
            parts.append(b"\x07" + b"".join(map(self._encoded, row, shapes)))
        text = "ORA-01403: no data found" if end else ""
        return b"".join(parts) + self._error(end, text, cursor=number, count=cursor.count)

    def _encoded(self, value: Any, shape: Shape) -> bytes:
        if shape.kind not in LOBS | DOCUMENTS:
            return values.encoded(value, shape.kind)
        if value is None:
            return ub(0)
        if shape.kind in DOCUMENTS:
            image = oson(value) if shape.kind == JSON else vector(value)
            return ub(len(image)) + ub(len(image)) + ub(8132) + chunks(image) + chunks(bytes(40))
        data = value if isinstance(value, bytes) else str(value).encode()
        self._lobs.append(data)
        locator = struct.pack(">16xI20x", len(self._lobs) - 1)
        size = len(data) if isinstance(value, bytes) else len(str(value))
        return ub(len(locator)) + ub(size) + ub(8132) + chunks(locator)

    def _fetch_more(self, reader: Reader) -> bytes:
        return self._rows(reader.ub(), reader.ub())

    def _given_out(self, cursor: Cursor, result: Result) -> bytes:
        names = list(dict.fromkeys(bind_names(cursor.sql)))
        directions = bytes(_BOTH if name in result.out else _IN for name in names)
        vector = b"\x0b\0" + ub(len(names)) + ub(0) + ub(0) + ub(0) + ub(0) + ub(0) + directions
        if not result.out:
            return vector
        given = b"".join(
            self._out(result.out[name], shape)
            for name, shape in zip(names, cursor.binds, strict=True)
            if name in result.out
        )
        return vector + b"\x07" + given

    def _out(self, value: Any, shape: Shape) -> bytes:
        if shape.kind != CURSOR:
            return values.encoded(value, shape.kind) + ub(0)
        number = next(self._numbers)
        self._cursors[number] = Cursor("", shapes=value.shapes, rows=value.rows)
        return b"\1" + self._described(value.shapes, is_whole=False) + ub(number) + ub(0)

    def _lob(self, reader: Reader) -> bytes:
        reader.byte()
        length = reader.ub()
        reader.skip("buuubbb")
        operation = reader.ub()
        reader.skip("bb")
        offset = reader.ub()
        reader.ub()
        has_amount = reader.byte()
        reader.raw(6)
        locator = reader.raw(length)
        amount = reader.ub() if has_amount else 0
        data = self._lobs[struct.unpack(">16xI20x", locator)[0]]
        if operation == _LOB_READ:
            text = data.decode(errors="surrogateescape")[offset - 1 : offset - 1 + amount]
            part = text.encode(errors="surrogateescape")
            return b"\x0e" + chunks(part) + b"\x08" + locator + ub(len(part)) + self._error(0)
        assert operation == _LOB_LENGTH, operation
        return b"\x08" + locator + ub(len(data)) + self._error(0)
