"""An identity provider for development and tests: client credentials, RS256. Never for production.

It keeps its keys and its clients' secrets in memory, listens on loopback in plain
HTTP, and forgets everything when it stops.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote_plus

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

TOKEN_SECONDS: Final = 3600
_SERVER: Final = "gateway-demo-identity (development only)"
_MAX_BODY: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class _Client:
    client_id: str
    secret: str
    scopes: frozenset[str]


class OAuthError(Exception):
    """An answer of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    private: RSAPrivateKey

    @classmethod
    def generate(cls) -> _Key:
        return cls(uuid.uuid4().hex, generate_private_key(65537, 2048))

    def public_jwk(self) -> dict[str, Any]:
        jwk = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": jwk["n"], "e": jwk["e"]}


class IdentityProvider:
    """Serves discovery, keys and tokens on loopback while it is entered as a context.

    Args:
        clients: who may get tokens: for each client id its secret and the scopes it may
            ask for, all of them granted when it asks for none.
        audience: the one resource that tokens are issued for.
        port: TCP port on 127.0.0.1; 0 takes a free one.
    """

    def __init__(self, clients: Mapping[str, tuple[str, Iterable[str]]], audience: str, port: int = 0) -> None:
        self._clients = {name: _Client(name, secret, frozenset(scopes)) for name, (secret, scopes) in clients.items()}
        self.audience = audience
        self._port = port
        self._keys = [_Key.generate()]
        self._runner: web.AppRunner | None = None
        self.issuer = ""

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.issuer}/token"

    @property
    def jwks_uri(self) -> str:
        """The key set."""
        return f"{self.issuer}/jwks"

    @property
    def current_kid(self) -> str:
        """The name of the key that signs now."""
        return self._keys[0].kid

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay published, or vanish as after a leak."""
        self._keys = [_Key.generate(), *(self._keys if keep_old else ())]

    def issue(
        self,
        client_id: str,
        *,
        scopes: Iterable[str] | None = None,
        lifetime: float = TOKEN_SECONDS,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """An access token of the JWT profile (RFC 9068) for a registered client, without asking its secret.

        Args:
            scopes: the client's own when None.
            lifetime: seconds from now.
            claims: added, and put over the standard ones.
        """
        client = self._clients[client_id]
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "sub": client_id,
            "aud": self.audience,
            "client_id": client_id,
            "scope": " ".join(sorted(client.scopes if scopes is None else scopes)),
            "iat": now,
            "exp": now + int(lifetime),
            "jti": uuid.uuid4().hex,
            **(claims or {}),
        }
        key = self._keys[0]
        return jwt.encode(payload, key.private, algorithm="RS256", headers={"kid": key.kid, "typ": "at+jwt"})

    def application(self) -> web.Application:
        """The HTTP application."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.on_response_prepare.append(_sign_response)
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/.well-known/oauth-authorization-server", self._discovery)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/token", self._token)
        return app

    async def __aenter__(self) -> Self:
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runner = runner
        try:
            site = web.TCPSite(runner, "127.0.0.1", self._port)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self.issuer = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _discovery(self, _: web.Request) -> web.Response:
        """OpenID Connect Discovery 1.0 and RFC 8414."""
        return web.json_response(
            {
                "issuer": self.issuer,
                "token_endpoint": self.token_url,
                "jwks_uri": self.jwks_uri,
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "scopes_supported": sorted(set().union(*(client.scopes for client in self._clients.values()))),
            }
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [key.public_jwk() for key in self._keys]})

    async def _token(self, request: web.Request) -> web.Response:
        """The token endpoint (RFC 6749 sections 2.3.1, 4.4, 5)."""
        headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
        try:
            form = await _form(request)
            client = self._authenticate(request.headers.get("Authorization"), form)
            grant = form.get("grant_type")
            if grant is None:
                raise OAuthError("invalid_request", "grant_type is missing")
            if grant != "client_credentials":
                raise OAuthError("unsupported_grant_type", "only client_credentials is offered")
            self._check_target(form)
            scopes = _wanted_scopes(client, form)
        except OAuthError as error:
            if error.status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="development identity provider"'
            body = {"error": error.error, "error_description": error.description}
            return web.json_response(body, status=error.status, headers=headers)
        token = self.issue(client.client_id, scopes=scopes)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        return web.json_response({**answer, "scope": " ".join(sorted(scopes))}, headers=headers)

    def _check_target(self, form: Mapping[str, str]) -> None:
        """`resource` (RFC 8707 section 2), or `audience`, as some providers call it."""
        if any(form[name] != self.audience for name in ("resource", "audience") if name in form):
            raise OAuthError("invalid_target", "no tokens are issued for this resource")

    def _authenticate(self, authorization: str | None, form: Mapping[str, str]) -> _Client:
        if authorization is not None:
            if "client_secret" in form:
                raise OAuthError("invalid_request", "use one way of client authentication")
            client_id, secret = _basic(authorization)
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        client = self._clients.get(client_id)
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise OAuthError("invalid_client", "unknown client or wrong secret", 401)
        return client


async def _sign_response(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "send application/x-www-form-urlencoded")
    form: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if name in form or not isinstance(value, str):
            raise OAuthError("invalid_request", f"{name} is given twice")
        form[name] = value
    return form


def _basic(authorization: str) -> tuple[str, str]:
    """Client id and secret, form-encoded inside the Basic scheme (RFC 6749 section 2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        client_id, separator, secret = text.partition(":")
        if not separator:
            raise ValueError
    except (ValueError, binascii.Error):
        raise OAuthError("invalid_client", "send HTTP Basic credentials", 401) from None
    return unquote_plus(client_id), unquote_plus(secret)


def _wanted_scopes(client: _Client, form: Mapping[str, str]) -> frozenset[str]:
    wanted = frozenset(form.get("scope", "").split())
    if not wanted <= client.scopes:
        raise OAuthError("invalid_scope", "the client is not registered for all of these scopes")
    return wanted or client.scopes
