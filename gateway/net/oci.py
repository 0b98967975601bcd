"""Database tokens of OCI IAM, each bound to a key pair of the gateway's own.

Asked for with an API key (Oracle Cloud Infrastructure Documentation, "Request Signatures", which follow
draft-cavage-http-signatures; Identity and Access Management Data Plane API, GenerateScopedAccessBearerToken).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from yarl import URL

from gateway.net.oauth import Renewed, TokenError, post, refused
from gateway.net.tls import Sighting

_BITS: Final = 2048
_SIGNED: Final = ("date", "(request-target)", "host", "content-length", "content-type", "x-content-sha256")


@dataclass(frozen=True, slots=True)
class BoundToken:
    """A token that is good only together with its private key.

    Attributes:
        token: the token.
        key: the private key in PEM.
    """

    token: str = field(repr=False)
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a user of OCI.

    Attributes:
        tenancy: the tenancy's OCID.
        user: the user's.
        fingerprint: the key's, as the console shows it.
        pem: the private key.
    """

    tenancy: str
    user: str
    fingerprint: str
    pem: str = field(repr=False)


class DatabaseTokens(Renewed[BoundToken]):
    """A source of database tokens: cached, refreshed a minute before their end, one request at a time.

    Args:
        url: the data plane's GenerateScopedAccessBearerToken.
        api_key: who asks.
        scope: which databases the token is for.
        sighting: where the endpoint's certificate is remembered.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        api_key: ApiKey,
        scope: str,
        *,
        sighting: Sighting | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = URL(url)
        self._api_key = api_key
        self._scope = scope
        self._sighting = sighting
        super().__init__(self._ask, clock)

    async def _ask(self) -> tuple[BoundToken, float]:
        own = await asyncio.to_thread(rsa.generate_private_key, 65537, _BITS)
        public = own.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        body = orjson.dumps({"scope": self._scope, "publicKey": public.decode()})
        headers = signed(self._api_key, self._url, body, formatdate(usegmt=True))
        answer, status = await post(str(self._url), body, headers, sighting=self._sighting)
        token = answer.get("token")
        if not isinstance(token, str) or not token:
            raise refused(str(self._url), answer, status)
        private = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        if (life := end_of(token) - time.time()) <= 0:
            raise TokenError("The token for the database has already ended: does this machine's clock go right?")
        return BoundToken(token, private.decode()), life


def signed(api_key: ApiKey, url: URL, body: bytes, date: str) -> dict[str, str]:
    """The headers of a POST, with its signature.

    Raises:
        TokenError: the API key is no RSA key in PEM.
    """
    headers = {
        "date": date,
        "host": url.host_port_subcomponent or "",
        "content-length": str(len(body)),
        "content-type": "application/json",
        "x-content-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    values: dict[str, Any] = headers | {"(request-target)": f"post {url.raw_path_qs}"}
    text = "\n".join(f"{name}: {values[name]}" for name in _SIGNED)
    try:
        key = serialization.load_pem_private_key(api_key.pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TokenError("The API key of OCI is no private key in PEM without a passphrase.") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TokenError("The API key of OCI is no RSA key.")
    signature = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()
    identity = f"{api_key.tenancy}/{api_key.user}/{api_key.fingerprint}"
    headers["authorization"] = (
        f'Signature version="1",keyId="{identity}",algorithm="rsa-sha256",'
        f'headers="{" ".join(_SIGNED)}",signature="{signature}"'
    )
    return headers


def end_of(token: str) -> float:
    """When a token that is a JWT ends, in Unix time; who takes it verifies it.

    Raises:
        TokenError: it does not say.
    """
    try:
        payload = token.split(".")[1]
        return float(orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise TokenError("The token that was given for the database is no JWT with an end.") from error
