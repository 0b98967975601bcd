"""One connection, from the listener's answer to the log-off."""

from __future__ import annotations

import socket
import sqlite3
from typing import Any

from tests.servers.oracle import answers, wire
from tests.servers.oracle.engine import CANCELLED, Refusal, Session, refusal
from tests.servers.oracle.faults import Faults
from tests.servers.oracle.reception import Reception
from tests.servers.oracle.statements import Statements
from tests.servers.oracle.wire import Broken, Gone, Packets, Reader


class Dialogue:
    """Serves one client until it leaves."""

    def __init__(self, raw: socket.socket, settings: dict[str, Any], faults: Faults) -> None:
        self._packets = Packets(raw, self._stop, faults.flowing)
        self._reception = Reception(self._packets, settings, faults)
        self._session: Session | None = None

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def run(self) -> None:
        """Listen, log in, serve."""
        try:
            self._session = self._reception.receive()
            if self._session is not None:
                Conversation(self._packets, self._session).hold()
        except Gone:
            pass
        finally:
            if self._session is not None:
                self._session.db.close()


class Conversation:
    """Answers the calls of a client that has logged in."""

    def __init__(self, packets: Packets, session: Session) -> None:
        self._packets = packets
        self._session = session
        self._statements = Statements(session)
        self._functions = self._statements.functions | {
            147: lambda _: answers.status(session),
            14: self._commit,
            15: self._rollback,
            9: lambda _: answers.status(session),
        }

    def hold(self) -> None:
        """Until the client logs off."""
        while True:
            try:
                function, answer = self._answer(self._packets.request())
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
        self._session.is_stopped = False
        self._packets.send_marker(wire.RESET)
        self._packets.send_data(
            answers.error(self._session, CANCELLED, "ORA-01013: user requested cancel of current operation")
        )

    def _answer(self, reader: Reader) -> tuple[int, bytes]:
        while (kind := reader.byte()) == 17:
            self._piggyback(reader)
        assert kind == 3, kind
        function = reader.byte()
        reader.byte()
        self._session.calls += 1
        try:
            return function, self._functions[function](reader)
        except (Refusal, sqlite3.Error) as error:
            told = error if isinstance(error, Refusal) else refusal(error, "")
            return function, answers.error(self._session, told.number, told.text, position=told.position)

    def _piggyback(self, reader: Reader) -> None:
        function = reader.byte()
        reader.byte()
        if function == 105:
            reader.byte()
            for _ in range(reader.ub()):
                self._statements.close(reader.ub())
        elif function == 135:
            self._end_to_end(reader)
        elif function == 176:
            reader.ub()
        elif function == 152:
            reader.byte()
            self._session.known["current_schema"] = reader.sized().decode()
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
                self._session.known[name] = (reader.chunks() or b"").decode() if length else None

    def _free_lobs(self, reader: Reader) -> None:
        reader.byte()
        size = reader.ub()
        reader.skip("buuubbbubuuubbububu")
        reader.raw(size)

    def _commit(self, reader: Reader) -> bytes:
        self._session.commit()
        return answers.status(self._session)

    def _rollback(self, reader: Reader) -> bytes:
        self._session.rollback()
        return answers.status(self._session)
