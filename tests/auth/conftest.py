"""A verifier with keys of every kind, fetched from a real server, shared by the tests of one module."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_asyncio

from gateway.auth.verifier import TokenVerifier, open_verifier
from tests.auth.provider import FaultyProvider, answers, auth_settings, until_ready
from tests.auth.tokens import ISSUER, jwk, private_key, rsa_key

KEYS = [
    jwk(private_key("RS256"), "RS256", "k1", use="sig"),
    jwk(private_key("ES256"), "ES256", "ec256", alg="ES256"),
    jwk(private_key("ES384"), "ES384", "ec384"),
    jwk(private_key("ES512"), "ES512", "ec512"),
    jwk(private_key("EdDSA"), "EdDSA", "ed"),
    jwk(rsa_key("rs-only"), "RS256", "rs-only", alg="RS256"),
    jwk(rsa_key("encryption"), "RS256", "encryption", use="enc"),
    jwk(rsa_key("small", 1024), "RS256", "small"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier() -> AsyncIterator[TokenVerifier]:
    async with FaultyProvider() as provider:
        provider.faults["/jwks"] = answers(json.dumps({"keys": KEYS}))
        async with open_verifier(auth_settings([ISSUER], jwks_uri=provider.jwks_uri)) as opened:
            yield await until_ready(opened)
