"""A certified OpenID Connect provider of the tests' own: npm's `oidc-provider`, to be killed and started again."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.conformance.run import node, npm
from tests.servers.local import HOST, free_port
from tests.servers.turns import in_turn

HERE: Final = Path(__file__).parents[1] / "auth" / "oidc_provider"
CACHE: Final = Path(__file__).parents[2] / ".cache" / "oidc-provider"
JWT_RESOURCE: Final = "https://gateway.example.com/mcp"
"""Tokens for it are JWTs."""
OPAQUE_RESOURCE: Final = "https://gateway.example.com/opaque"
"""Tokens for it are opaque."""
OTHER_RESOURCE: Final = "https://elsewhere.example.com/api"
"""Another server's; opaque."""
SCOPE: Final = "customers:read orders:read mcp:tools"
_NODE: Final = 20


@cache
def install() -> Path:
    """The pinned provider, fetched unless it is there already; returns its script.

    Raises:
        CannotRun: npm is missing, or it failed.
    """
    files = {name: (HERE / name).read_bytes() for name in ("package.json", "package-lock.json", "provider.js")}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    stamp = CACHE / "installed"
    with in_turn("oidc"):
        if not stamp.exists() or stamp.read_text() != digest:
            CACHE.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (CACHE / name).write_bytes(content)
            npm("ci", "--ignore-scripts", folder=CACHE)
            stamp.write_text(digest)
    return CACHE / "provider.js"


def signing_key(kid: str) -> dict[str, Any]:
    """A private JWK."""
    made: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": kid, "use": "sig", "alg": "RS256"}


class OidcServer:
    """The provider, with an agent that gets tokens and two ways for the gateway to prove who it is.

    Args:
        life: seconds that its tokens live.
    """

    def __init__(self, life: int = 600) -> None:
        self.port = free_port()
        self.issuer = f"http://{HOST}:{self.port}"
        self.agent_secret = secrets.token_urlsafe(24)
        self.gateway_secret = "a secret: with/odd+signs&" + secrets.token_urlsafe(24)
        self.keys = [signing_key("first")]
        private = ec.generate_private_key(ec.SECP256R1())
        self.private_key = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self._public = {**ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "gw", "alg": "ES256"}
        self._public.pop("key_ops", None)
        self._life = life
        self._process: subprocess.Popen[str] | None = None

    def _configuration(self) -> dict[str, Any]:
        mute = {"redirect_uris": [], "response_types": [], "scope": SCOPE}
        agent = {"client_id": "agent", "client_secret": self.agent_secret, "grant_types": ["client_credentials"]}
        basic = {"client_id": "gateway", "client_secret": self.gateway_secret, "grant_types": []}
        signer: dict[str, Any] = {
            "client_id": "gateway-key",
            "token_endpoint_auth_method": "private_key_jwt",
            "grant_types": [],
        }
        signer |= {"jwks": {"keys": [self._public]}, "token_endpoint_auth_signing_alg": "ES256"}
        resources = {
            name: {"scope": SCOPE, "audience": name, "accessTokenFormat": kind}
            for name, kind in ((JWT_RESOURCE, "jwt"), (OPAQUE_RESOURCE, "opaque"), (OTHER_RESOURCE, "opaque"))
        }
        return {
            "issuer": self.issuer,
            "port": self.port,
            "keys": self.keys,
            "clients": [{**mute, **client} for client in (agent, basic, signer)],
            "resources": resources,
            "life": self._life,
        }

    def start(self) -> None:
        """Start, and wait until it listens."""
        script = install()
        process = subprocess.Popen(
            [str(node(_NODE)), str(script)],
            cwd=CACHE,
            env={"PATH": os.environ.get("PATH", ""), "PROVIDER": json.dumps(self._configuration())},
            # It ends when this pipe does, however the tests' process ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process = process
        assert process.stdout is not None
        assert "listening" in process.stdout.readline(), f"the provider ended with {process.poll()}"

    def kill(self) -> None:
        """End it at once, with every opaque token that it issued."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=10)

    def rotate(self, *, keep_old: bool = True) -> None:
        """Start again with a new key, which signs from now on."""
        self.kill()
        self.keys = [signing_key(secrets.token_hex(4)), *(self.keys if keep_old else [])]
        self.start()


@contextmanager
def running_oidc(life: int = 600) -> Iterator[OidcServer]:
    """A started provider."""
    server = OidcServer(life)
    server.start()
    try:
        yield server
    finally:
        server.kill()
