"""The attacks on signed tokens, each refused with its reason (RFC 8725), and the tokens that are good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwt import UnusableKeyError, is_signed_by, load_key, parse
from gateway.auth.verifier import TokenVerifier
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.strict_json import MAX_DEPTH
from tests.auth.tokens import ISSUER, b64, claims, jwk, private_key, rsa_key, segment, sign

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def reason_of(verifier: TokenVerifier, token: str) -> str:
    """Why the token is refused: the same twice, and never known."""
    with pytest.raises(Unauthenticated) as first:
        await verifier.verify(token)
    with pytest.raises(Unauthenticated) as second:
        await verifier.verify(token)
    assert verifier.known(token) is None
    assert (first.value.reason, first.value.message) == (second.value.reason, second.value.message)
    return first.value.reason


@pytest.mark.parametrize(
    ("algorithm", "kid"),
    [
        ("RS256", "k1"),
        ("PS256", "k1"),
        ("RS256", "rs-only"),
        ("ES256", "ec256"),
        ("ES384", "ec384"),
        ("EdDSA", "ed"),
    ],
)
async def test_good_tokens_of_each_family(verifier: TokenVerifier, algorithm: str, kid: str) -> None:
    key = rsa_key("rs-only") if kid == "rs-only" else private_key(algorithm)
    token = sign(claims(), algorithm=algorithm, kid=kid, key=key)
    principal = await verifier.verify(token)
    assert (principal.issuer, principal.subject, principal.scopes) == (ISSUER, "alice", frozenset("ab"))
    assert verifier.known(token) == principal
    assert "claims" not in repr(principal)


async def test_a_token_without_kid_is_tried_with_the_keys_that_fit(verifier: TokenVerifier) -> None:
    for algorithm in ("RS256", "ES256", "EdDSA"):
        assert (await verifier.verify(sign(claims(), algorithm=algorithm, kid=None))).subject == "alice"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/okta-internal-at+jwt", ...])
async def test_kinds_of_access_tokens(verifier: TokenVerifier, typ: Any) -> None:
    assert await verifier.verify(sign(claims(), header={"typ": typ}))


@pytest.mark.parametrize(
    "typ",
    [
        *("oauth-id-jag+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "id_token+jwt"),
        *("JWE", "application/", "", None, 7, ["at+jwt"]),
    ],
)
async def test_other_kinds_are_refused(verifier: TokenVerifier, typ: Any) -> None:
    assert await reason_of(verifier, sign(claims(), header={"typ": typ})) == "token_type"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 5, ["RS256"], ...])
async def test_none_in_any_case_is_refused(verifier: TokenVerifier, alg: Any) -> None:
    signed = sign(claims(), header={"alg": alg})
    assert await reason_of(verifier, signed) == "algorithm"
    unsigned = signed.rpartition(".")[0] + "."
    assert await reason_of(verifier, unsigned) == "malformed"


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "RS512", "ES256K", "rs256", "dir", "RSA-OAEP"])
async def test_algorithms_outside_the_list_are_refused(verifier: TokenVerifier, alg: str) -> None:
    assert await reason_of(verifier, sign(claims(), header={"alg": alg})) == "algorithm"


async def test_the_public_key_as_hmac_secret_is_refused(verifier: TokenVerifier) -> None:
    public = private_key("RS256").public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk(private_key("RS256"), "RS256")).encode(),
    ]
    for secret in secrets:
        content = f"{segment({'alg': 'HS256', 'kid': 'k1'})}.{segment(claims())}"
        mac = hmac.new(secret, content.encode(), hashlib.sha256).digest()
        assert await reason_of(verifier, f"{content}.{b64(mac)}") == "algorithm"


async def test_keys_in_the_header_are_ignored(verifier: TokenVerifier) -> None:
    thief = rsa_key("thief")
    embedded = jwk(thief, "RS256", "k1")
    for header in (
        {"jwk": embedded},
        {"jku": "https://thief.example/jwks"},
        {"x5u": "https://thief.example/pem"},
        {"x5c": [b64(thief.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))]},
    ):
        assert await reason_of(verifier, sign(claims(), key=thief, header=header)) == "signature"
        assert await verifier.verify(sign(claims(), header=header))


@pytest.mark.parametrize("kid", ["../../dev/null", "' or 1=1 --", "k1\x00", "K1", "http://thief/", "", "é" * 1500])
async def test_a_kid_is_only_a_name(verifier: TokenVerifier, kid: str) -> None:
    assert await reason_of(verifier, sign(claims(), kid=kid)) == "unknown_key"


@pytest.mark.parametrize("kid", [7, None, ["k1"], {"k1": 1}, True])
async def test_a_kid_must_be_text(verifier: TokenVerifier, kid: Any) -> None:
    assert await reason_of(verifier, sign(claims(), header={"kid": kid})) == "header"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": "x"},
        {"b64": False},
        {"b64": True},
        {"enc": "A256GCM"},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
)
async def test_members_that_change_the_reading_are_refused(verifier: TokenVerifier, header: Any) -> None:
    assert await reason_of(verifier, sign(claims(), header=header)) == "header"


async def test_the_key_must_fit_the_algorithm(verifier: TokenVerifier) -> None:
    assert await reason_of(verifier, sign(claims(), algorithm="ES256", kid="k1")) == "key_mismatch"
    assert await reason_of(verifier, sign(claims(), algorithm="RS256", kid="ec256")) == "key_mismatch"
    assert await reason_of(verifier, sign(claims(), algorithm="ES256", kid="ec384")) == "key_mismatch"
    assert await reason_of(verifier, sign(claims(), algorithm="EdDSA", kid="ec256")) == "key_mismatch"
    token = sign(claims(), algorithm="PS256", kid="rs-only", key=rsa_key("rs-only"))
    assert await reason_of(verifier, token) == "key_mismatch"


async def test_weak_keys_and_keys_for_encryption_do_not_exist(verifier: TokenVerifier) -> None:
    assert await reason_of(verifier, sign(claims(), kid="small", key=rsa_key("small", 1024))) == "unknown_key"
    assert await reason_of(verifier, sign(claims(), kid="encryption", key=rsa_key("encryption"))) == "unknown_key"


async def test_forged_signatures_are_refused(verifier: TokenVerifier) -> None:
    content, _, signature = sign(claims()).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = sign(claims(sub="mallory")).rpartition(".")[2]
    for forged in (other, b64(b"\0" * 256), b64(b"\xff" * 256), b64(b"x"), b64(raw[:-1]), b64(raw + b"x")):
        assert await reason_of(verifier, f"{content}.{forged}") == "signature"


@pytest.mark.parametrize("forged", [b"\0" * 64, b"\0" * 32 + b"\1" * 32, b"\xff" * 64, b"\0" * 96, b"0\6\2\1\0\2\1\0"])
async def test_zero_signatures_of_es256_are_refused(verifier: TokenVerifier, forged: bytes) -> None:
    content = sign(claims(), algorithm="ES256", kid="ec256").rpartition(".")[0]
    assert await reason_of(verifier, f"{content}.{b64(forged)}") == "signature"


async def test_stripped_padded_and_loose_segments_are_refused(verifier: TokenVerifier) -> None:
    header, payload, signature = sign(claims(), algorithm="ES256", kid="ec256").split(".")
    # 64 bytes leave four loose bits in the last character: another text, the same bytes.
    twin = signature[:-1] + chr(ord(signature[-1]) + 1)
    assert base64.urlsafe_b64decode(twin + "==") == base64.urlsafe_b64decode(signature + "==")
    for token in (
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{header}.{payload}.{signature}==",
        f"{header}.{payload}.{twin}",
        f"{header}.{payload}.{signature[:20]}+/{signature[22:]}",
        f"{header}.{payload}.{signature[:20]}\n{signature[20:]}",
        f"{header}.{payload}.{signature}.",
        f"{header}.{payload}.{signature}\u0661",
        "",
        "..",
        "opaque-token",
    ):
        assert await reason_of(verifier, token) == "malformed"


async def test_encrypted_and_nested_tokens_are_refused(verifier: TokenVerifier) -> None:
    encrypted = ".".join([segment({"alg": "RSA-OAEP", "enc": "A256GCM"}), "a", "b", "c", "d"])
    assert await reason_of(verifier, encrypted) == "malformed"
    nested = sign(sign(claims()).encode(), header={"cty": "JWT"})
    assert await reason_of(verifier, nested) == "malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"https://idp.example.com/","iss":"https://thief.example/"}',
        b'{"iss":"https://idp.example.com/","exp":9999999999,"aud":"x","sub":"a","sub":"b"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"exp":1e999}',
        b'{"exp":' + b"9" * 5000 + b"}",
        b'{"sub":"\\ud800"}',
        b'{"sub":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 8000,
        b'{"a":' * 2000,
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b"{",
        b"{'a': 1}",
    ],
)
async def test_ambiguous_or_broken_json_is_refused(verifier: TokenVerifier, payload: bytes) -> None:
    assert await reason_of(verifier, sign(payload)) == "malformed"
    assert await reason_of(verifier, sign(claims(), header=payload)) == "malformed"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
async def test_depth_is_bounded(verifier: TokenVerifier, opening: str, closing: str) -> None:
    def deep(members: dict[str, Any], levels: int) -> bytes:
        return json.dumps(members)[:-1].encode() + f',"x":{opening * levels}1{closing * levels}}}'.encode()

    kind = {"alg": "RS256", "typ": "at+jwt", "kid": "k1"}
    # The object of all claims, or of the header, is one level.
    assert await verifier.verify(sign(deep(claims(), MAX_DEPTH - 1), header=deep(kind, MAX_DEPTH - 1)))
    # Around the depths at which parsers give up by themselves, too.
    for levels in (MAX_DEPTH, 254, 500, 990, 1024):
        assert await reason_of(verifier, sign(deep(claims(), levels))) == "malformed"
        assert await reason_of(verifier, sign(claims(), header=deep(kind, levels))) == "malformed"


async def test_the_issuer_chooses_by_exact_match(verifier: TokenVerifier) -> None:
    for iss in (ISSUER.rstrip("/"), ISSUER.upper(), ISSUER + "x", "", None, 5, [ISSUER], {"a": ISSUER}, ...):
        assert await reason_of(verifier, sign(claims(iss=iss))) == "unknown_issuer"


async def test_size_is_refused_before_anything_is_decoded(verifier: TokenVerifier) -> None:
    assert await reason_of(verifier, "a" * 16385) == "too_large"
    fitting = sign(claims(filler="x" * 11000))
    assert 14000 < len(fitting) <= 16384
    assert await verifier.verify(fitting)


async def test_each_layer_refuses_for_itself() -> None:
    with pytest.raises(Unauthenticated) as caught:
        parse("a" * 16385)
    assert caught.value.reason == "too_large"
    token = parse(sign(claims(), algorithm="PS256"))
    assert is_signed_by(token, load_key(jwk(private_key("RS256"), "RS256")))
    assert not is_signed_by(token, load_key(jwk(private_key("RS256"), "RS256", alg="RS256")))


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([ISSUER, "RS256", "k1", "JWT", "at+jwt"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_header_names = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "x5u", "enc", "zip", "cty"])
_claim_names = st.sampled_from(
    ["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "scp", "client_id", "azp", "cnf", "nonce", "typ", "roles"]
)


@given(header=st.dictionaries(_header_names, _values), payload=st.dictionaries(_claim_names, _values))
async def test_signed_nonsense_is_a_principal_or_unauthenticated(
    verifier: TokenVerifier, header: dict[str, Any], payload: dict[str, Any]
) -> None:
    token = sign(claims() | payload, header=header)
    try:
        principal = await verifier.verify(token)
    except Unauthenticated:
        return
    merged = claims() | payload
    assert merged["iss"] == principal.issuer == ISSUER
    assert "cnf" not in merged
    assert principal.subject
    assert principal.expires_at > time.time() - 31


@given(st.text() | st.lists(st.binary().map(b64), min_size=3, max_size=3).map(".".join))
async def test_any_text_is_unauthenticated(verifier: TokenVerifier, token: str) -> None:
    assert await reason_of(verifier, token)


@given(st.data())
async def test_one_changed_character_is_unauthenticated(verifier: TokenVerifier, data: st.DataObject) -> None:
    token = sign(claims())
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda character: character != token[position]))
    with pytest.raises((Unauthenticated, IdentityProviderUnavailable)) as caught:
        await verifier.verify(token[:position] + other + token[position + 1 :])
    assert caught.type is Unauthenticated


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ({}, "not text"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "symmetric"),
        (jwk(rsa_key("main"), "RS256") | {"d": "AQAB"}, "private"),
        (jwk(rsa_key("main"), "RS256", alg="RSA-OAEP"), "alg"),
        (jwk(rsa_key("main"), "RS256", alg="ES256"), "alg"),
        (jwk(rsa_key("main"), "RS256", alg=["RS256"]), "alg"),
        (jwk(rsa_key("main"), "RS256", use="enc"), "signature"),
        (jwk(rsa_key("main"), "RS256", key_ops=["encrypt"]), "signature"),
        (jwk(rsa_key("main"), "RS256", key_ops="verify"), "signature"),
        (jwk(rsa_key("main"), "RS256", n=7), "member"),
        (jwk(rsa_key("main"), "RS256", n="A" * 4000), "member"),
        (jwk(rsa_key("main"), "RS256", n="!!!"), "key"),
        (jwk(rsa_key("main"), "RS256", e=""), "broken"),
        (jwk(rsa_key("small", 1024), "RS256"), "1024 bits"),
        (jwk(private_key("ES256"), "ES256", crv="P-384"), "broken"),
        (jwk(private_key("ES256"), "ES256", crv="secp256k1"), "not supported"),
        (jwk(private_key("ES256"), "ES256", crv=["P-256"]), "not text"),
        (jwk(private_key("ES256"), "ES256", y=b64(b"\1" * 32)), "broken"),
        (jwk(private_key("EdDSA"), "EdDSA", crv="X25519"), "not supported"),
        (jwk(private_key("EdDSA"), "EdDSA", x=b64(b"short")), "broken"),
        ({"kty": "AKP", "pub": "x"}, "not supported"),
        (jwk(rsa_key("main"), "RS256") | {"kid": 7}, "not text"),
    ],
)
async def test_unusable_keys_say_why(entry: Any, why: str) -> None:
    with pytest.raises(UnusableKeyError, match=why):
        load_key(entry)


@given(st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "alg", "use", "key_ops"]), _values))
async def test_any_key_is_usable_or_unusable(members: dict[str, Any]) -> None:
    for whole in (
        jwk(rsa_key("main"), "RS256"),
        jwk(private_key("ES256"), "ES256"),
        jwk(private_key("EdDSA"), "EdDSA"),
        {},
    ):
        with suppress(UnusableKeyError):
            assert load_key(whole | members).algorithms


async def test_es512_is_accepted_where_the_issuer_lists_it(verifier: TokenVerifier) -> None:
    token = sign(claims(), algorithm="ES512", kid="ec512")
    assert await reason_of(verifier, token) == "algorithm"
    assert is_signed_by(parse(token), load_key(jwk(private_key("ES512"), "ES512")))


async def test_a_thumbprint_is_that_of_rfc_7638() -> None:
    # The example of RFC 7638 section 3.1, in hexadecimal.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5haj"
        "rn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = load_key({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    assert b64(bytes.fromhex(key.thumbprint)) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
