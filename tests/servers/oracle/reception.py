"""How a client comes in: the listener's answer, what both sides can, and the login."""

from __future__ import annotations

import base64
import json
import re
import struct
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jwt.algorithms import RSAAlgorithm

from tests.servers.oracle import answers, wire
from tests.servers.oracle.engine import Session
from tests.servers.oracle.faults import Faults
from tests.servers.oracle.login import Verifier
from tests.servers.oracle.wire import Packets, chunks

TOKEN_AUDIENCE: Final = "https://database.test"
_RELEASE: Final = 3 << 16


class Reception:
    """Receives one client."""

    def __init__(self, packets: Packets, settings: dict[str, Any], faults: Faults) -> None:
        self._packets = packets
        self._faults = faults
        self._path = Path(settings["path"])
        self._users: dict[str, Any] = settings["users"]
        self._service: str = settings["service"]
        self._version: int = settings["version"]

    def receive(self) -> Session | None:
        """Let a client in; None where it was sent away."""
        if not self._accept():
            return None
        self._packets.is_large = True
        self._packets.start()
        self._negotiate()
        return self._log_in()

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

    def _negotiate(self) -> None:
        self._packets.request()
        element = bytes(9) + struct.pack(">H", 2000)
        compiled = bytearray(55)
        compiled[7] = 13
        runtime = bytearray(11)
        runtime[6] = 4
        banner = b"\1\6\0stand-in\0" + struct.pack("<HBH", 873, 0, 0) + struct.pack(">H", len(element)) + element
        self._packets.send_data(banner + chunks(bytes(compiled)) + chunks(bytes(runtime)))
        self._packets.request()
        self._packets.send_data(b"\2\0\0")

    def _log_in(self) -> Session | None:
        user, first = self._authentication()
        if "AUTH_TOKEN" in first:
            return self._log_in_with_token(first)
        password = self._users.get(user.upper(), {}).get("password")
        verifier = Verifier(password if password is not None else "\0")
        self._packets.send_data(answers.parameters(verifier.challenge()) + answers.status(None))
        _, answer = self._authentication()
        proxy = answer.get("PROXY_CLIENT_NAME", "")
        proof = verifier.proof(answer)
        if proof is None or password is None:
            self._packets.send_data(answers.error(None, 1017, "ORA-01017: invalid username/password; logon denied"))
            return None
        refused = self._users[user.upper()].get("refused")
        if refused or (proxy and proxy.upper() not in self._users[user.upper()].get("proxies", ())):
            number = refused or 28150
            self._packets.send_data(answers.error(None, number, f"ORA-{number:05d}: not allowed to log in"))
            return None
        if self._users[user.upper()].get("is_unproved"):  # as somebody in between would answer
            proof = proof[::-1]
        return self._welcome(user, proxy, answer, [("AUTH_SVR_RESPONSE", proof, 0)])

    def _log_in_with_token(self, answer: dict[str, str]) -> Session | None:
        """Take a token for this database, unless it was revoked; its signature is not what is tested.

        A token with a key (OCI IAM) needs a proof that its key is there, made for this service and moment.
        """
        payload = answer["AUTH_TOKEN"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        revoked = self._path.with_name("revoked")
        is_revoked = revoked.exists() and answer["AUTH_TOKEN"] in revoked.read_text().split()
        is_ours = claims.get("aud") == TOKEN_AUDIENCE or claims.get("scope", "").startswith("urn:oracle:db::")
        if not is_ours or is_revoked or claims["exp"] < time.time() or not self._is_proved(claims, answer):
            self._packets.send_data(answers.error(None, 1017, "ORA-01017: invalid token; logon denied"))
            return None
        return self._welcome(claims["sub"], "", answer, [])

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

    def _welcome(self, user: str, proxy: str, answer: dict[str, str], proof: list[tuple[str, str, int]]) -> Session:
        session = Session(self._path, user, proxy)
        session.known["driver"] = answer.get("SESSION_CLIENT_DRIVER_NAME", "")
        session.known["connection_class"] = answer.get("AUTH_KPPL_CONN_CLASS")
        pairs = [
            ("AUTH_VERSION_NO", str(self._version << 24 | _RELEASE), 0),
            ("AUTH_SESSION_ID", "1", 0),
            ("AUTH_SERIAL_NUM", "1", 0),
            ("AUTH_MAX_OPEN_CURSORS", "300", 0),
            ("AUTH_SC_SERVICE_NAME", self._service, 0),
            ("AUTH_INSTANCENAME", "standin", 0),
            *proof,
        ]
        self._packets.send_data(answers.parameters(pairs) + answers.status(None))
        return session

    def _authentication(self) -> tuple[str, dict[str, str]]:
        reader = self._packets.request()
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
