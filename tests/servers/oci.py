"""OCI IAM's data plane as far as database tokens go: judges signed requests, and binds tokens to the asker's key."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jwt.algorithms import RSAAlgorithm

from tests.servers.web import serving

PATH: Final = "/v1/actions/generateScopedAccessBearerToken"
SCOPE: Final = "urn:oracle:db::id::*"
_PART: Final = re.compile(r'(\w+)="([^"]*)"')
_SIGNED: Final = {"date", "(request-target)", "host", "content-length", "content-type", "x-content-sha256"}


def pem(key: rsa.RSAPrivateKey) -> str:
    """A private key as a file has it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def bound_token(public: rsa.RSAPublicKey, *, life: float = 3600.0, scope: str = SCOPE) -> str:
    """A database token for whoever has the private key; who signed it is not what is tested."""
    claims = {"sub": "gateway", "scope": scope, "exp": time.time() + life, "jwk": RSAAlgorithm.to_jwk(public)}
    return jwt.encode(claims, "x" * 32, "HS256")


class DataPlane:
    """One user's data plane.

    Attributes:
        identity: tenancy, user and fingerprint of the one API key that it knows.
        life: seconds that its tokens are good for.
        issued: the tokens that it gave.
        fault: answered instead, while there is one.
    """

    identity = ("ocid1.tenancy.oc1..a", "ocid1.user.oc1..b", "12:34")

    def __init__(self) -> None:
        self.url = ""
        self.key = rsa.generate_private_key(65537, 2048)
        self.life = 3600.0
        self.issued: list[str] = []
        self.fault: Callable[[], web.Response] | None = None

    def settings(self) -> dict[str, Any]:
        """The `oci_token` of a source."""
        names = ("tenancy", "user", "fingerprint")
        return {"url": self.url, "key": pem(self.key), **dict(zip(names, self.identity, strict=True))}

    async def handle(self, request: web.Request) -> web.Response:
        if self.fault is not None:
            return self.fault()
        body = await request.read()
        if trouble := self._trouble(request, body):
            return web.json_response({"code": "NotAuthenticated", "message": trouble}, status=401)
        asked = json.loads(body)
        public = serialization.load_pem_public_key(asked["publicKey"].encode())
        assert isinstance(public, rsa.RSAPublicKey)
        self.issued.append(bound_token(public, life=self.life, scope=asked["scope"]))
        return web.json_response({"token": self.issued[-1]})

    def _trouble(self, request: web.Request, body: bytes) -> str:
        """What is wrong with a request's signature; "" where nothing is."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        parts = dict(_PART.findall(rest))
        names = parts.get("headers", "").split()
        if scheme != "Signature" or parts.get("keyId") != "/".join(self.identity) or set(names) != _SIGNED:
            return "no signature of a key that is known"
        if request.headers["x-content-sha256"] != base64.b64encode(hashlib.sha256(body).digest()).decode():
            return "another body"
        if abs(parsedate_to_datetime(request.headers["date"]).timestamp() - time.time()) > 300:
            return "another time"
        target = {"(request-target)": f"post {request.raw_path}"}
        text = "\n".join(f"{name}: {target.get(name) or request.headers[name]}" for name in names)
        signature = base64.b64decode(parts["signature"])
        try:
            self.key.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return "the signature does not verify"
        return ""


@asynccontextmanager
async def running_data_plane(context: ssl.SSLContext | None = None) -> AsyncIterator[DataPlane]:
    """A data plane on a free port."""
    plane = DataPlane()
    app = web.Application()
    app.router.add_post(PATH, plane.handle)
    async with serving(app, context) as url:
        plane.url = f"{url}{PATH}"
        yield plane
