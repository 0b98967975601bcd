"""The attack list: tokens that must not open the door (RFC 8725, 9068, 9700, 6750), and how they are forged."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.conftest import KEYS
from tests.auth.tokens import AUDIENCE, ISSUER, b64, claims, jwk, rsa_key, segment, sign

_serial: Final = itertools.count()


def fresh(**changes: Any) -> dict[str, Any]:
    """Good claims, other than any before: no memory of refusals answers."""
    return claims(jti=f"attack-{next(_serial)}", **changes)


def signed(header: Any = None, **changes: Any) -> str:
    """A token by the issuer's own key: nothing is wrong with it but what is named."""
    return sign(fresh(**changes), header=header)


def with_signature(change: Callable[[str], str], algorithm: str = "RS256", kid: str = "k1") -> str:
    content, _, signature = sign(fresh(), algorithm=algorithm, kid=kid).rpartition(".")
    return f"{content}.{change(signature)}"


def with_payload(text: bytes) -> str:
    """A signed payload of any bytes, in which @ stands for good claims."""
    return sign(text.replace(b"@", json.dumps(fresh()).encode()[1:-1]))


def with_header(text: bytes) -> str:
    """The same for the header."""
    return sign(fresh(), header=text.replace(b"@", b'"alg":"RS256","iss":"x","sub":"x"'))


def by_hmac(secret: bytes, algorithm: str = "HS256") -> str:
    content = f"{segment({'alg': algorithm, 'typ': 'at+jwt', 'kid': 'k1'})}.{segment(fresh())}"
    return f"{content}.{b64(hmac.new(secret, content.encode(), hashlib.sha256).digest())}"


def by_thief(header: dict[str, Any]) -> str:
    return sign(fresh(), key=rsa_key("thief"), header=header)


def public(encoding: Encoding, name: str = "main") -> bytes:
    return rsa_key(name).public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def unsigned(alg: str, signature: str = "") -> str:
    return f"{segment({'alg': alg, 'typ': 'at+jwt', 'kid': 'k1'})}.{segment(fresh())}.{signature}"


@dataclass(frozen=True)
class Attack:
    """A forgery, made anew each time, and the reason for which it is refused."""

    name: str
    reason: str
    make: Callable[[], str]

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def spliced(one: str, other: str) -> str:
    (header, _, signature), payload = one.split("."), other.split(".")[1]
    return f"{header}.{payload}.{signature}"


def ps256_by_rs256() -> str:
    return sign(fresh(), algorithm="PS256", kid="rs-only", key=rsa_key("rs-only"))


_ODD: Final[tuple[Any, ...]] = (None, 5, ["RS256"], {}, True, ...)

_FORGERIES: Final = [
    *(Attack(f"alg {alg} unsigned", "malformed", partial(unsigned, alg)) for alg in ("none", "None", "nOnE")),
    *(Attack(f"alg {a} signed", "algorithm", partial(signed, {"alg": a})) for a in ("none", "NONE", "", "rs256")),
    *(Attack(f"alg {a!r}", "algorithm", partial(signed, {"alg": a})) for a in _ODD),
    Attack("HS256 by public PEM", "algorithm", lambda: by_hmac(public(Encoding.PEM))),
    Attack("HS256 by public DER", "algorithm", lambda: by_hmac(public(Encoding.DER))),
    Attack("HS256 by public JWK", "algorithm", lambda: by_hmac(json.dumps(KEYS[0]).encode())),
    Attack("HS256 by modulus", "algorithm", lambda: by_hmac(KEYS[0]["n"].encode())),
    Attack("HS256 by nothing", "algorithm", lambda: by_hmac(b"")),
    Attack("HMAC under RS256", "signature", lambda: by_hmac(public(Encoding.PEM), "RS256")),
    Attack("algorithm not listed", "algorithm", lambda: sign(fresh(), algorithm="RS512")),
    Attack("embedded jwk", "signature", lambda: by_thief({"jwk": jwk(rsa_key("thief"), "RS256", "k1")})),
    Attack("embedded x5c", "signature", lambda: by_thief({"x5c": [b64(public(Encoding.DER, "thief"))]})),
    Attack("jku", "signature", lambda: by_thief({"jku": "https://thief.example/jwks"})),
    Attack("jku to loopback", "signature", lambda: by_thief({"jku": "http://127.0.0.1:1/jwks"})),
    Attack("x5u", "signature", lambda: by_thief({"x5u": "file:///etc/passwd"})),
    Attack("embedded jwk, own kid", "unknown_key", lambda: by_thief({"jwk": {}, "kid": "thief"})),
    Attack("kid as path", "unknown_key", lambda: signed({"kid": "../../../../dev/null"})),
    Attack("kid as SQL", "unknown_key", lambda: signed({"kid": "k1' union select 'secret' -- "})),
    Attack("kid as command", "unknown_key", lambda: signed({"kid": "k1|/bin/id"})),
    Attack("kid as URL", "unknown_key", lambda: signed({"kid": "http://169.254.169.254/"})),
    Attack("kid with NUL", "unknown_key", lambda: signed({"kid": "k1\0"})),
    Attack("kid with line breaks", "unknown_key", lambda: signed({"kid": "k1\r\nlevel=info user=admin"})),
    Attack("kid empty", "unknown_key", lambda: signed({"kid": ""})),
    Attack("kid huge", "unknown_key", lambda: signed({"kid": "k" * 9000})),
    *(Attack(f"kid {kid!r}", "header", partial(signed, {"kid": kid})) for kid in (7, None, ["k1"], {"k1": 1}, True)),
    Attack("crit unknown", "header", lambda: signed({"crit": ["exp"], "exp": 1})),
    Attack("crit empty", "header", lambda: signed({"crit": []})),
    Attack("crit not a list", "header", lambda: signed({"crit": "b64"})),
    Attack("b64 false", "header", lambda: signed({"b64": False, "crit": ["b64"]})),
    Attack("b64 false, not crit", "header", lambda: signed({"b64": False})),
    Attack("zip", "header", lambda: signed({"zip": "DEF"})),
    Attack("JWE", "malformed", lambda: ".".join([segment({"alg": "RSA-OAEP", "enc": "A256GCM"}), "a", "b", "c", "d"])),
    Attack("JWE in three parts", "header", lambda: signed({"enc": "A256GCM"})),
    Attack("nested, cty", "header", lambda: signed({"cty": "JWT"})),
    Attack("nested payload", "malformed", lambda: sign(sign(fresh()).encode())),
    Attack("ES256 zeros", "signature", lambda: with_signature(lambda _: b64(b"\0" * 64), "ES256", "ec256")),
    Attack("ES256 r 0", "signature", lambda: with_signature(lambda _: b64(b"\0" * 63 + b"\1"), "ES256", "ec256")),
    Attack("ES256 as DER", "signature", lambda: with_signature(lambda _: b64(b"0\6\2\1\0\2\1\0"), "ES256", "ec256")),
    Attack("ES256 order", "signature", lambda: with_signature(lambda _: b64(b"\xff" * 64), "ES256", "ec256")),
    Attack("EdDSA zeros", "signature", lambda: with_signature(lambda _: b64(b"\0" * 64), "EdDSA", "ed")),
    Attack("RS256 zeros", "signature", lambda: with_signature(lambda _: b64(b"\0" * 256))),
    Attack("RS256 one", "signature", lambda: with_signature(lambda _: b64(b"\0" * 255 + b"\1"))),
    Attack("signature stripped", "malformed", lambda: with_signature(lambda _: "")),
    Attack("signature and dot stripped", "malformed", lambda: signed().rpartition(".")[0]),
    Attack("signature padded", "malformed", lambda: with_signature(lambda s: s + "==")),
    Attack("signature short", "signature", lambda: with_signature(lambda s: s[:-6])),
    Attack("signature long", "signature", lambda: with_signature(lambda s: s[:-6] + "AAAA" + s[-6:])),
    Attack("signature of another", "signature", lambda: with_signature(lambda _: signed().rpartition(".")[2])),
    Attack("signature in base64", "malformed", lambda: with_signature(lambda s: s[:20] + "+/" + s[22:])),
    Attack("fourth part", "malformed", lambda: signed() + ".e30"),
    Attack("payload of another", "signature", lambda: spliced(signed(), signed(sub="root"))),
    Attack("small RSA key", "unknown_key", lambda: sign(fresh(), kid="small", key=rsa_key("small", 1024))),
    Attack("encryption key", "unknown_key", lambda: sign(fresh(), kid="encryption", key=rsa_key("encryption"))),
    Attack("ES256 by RSA name", "key_mismatch", lambda: sign(fresh(), algorithm="ES256", kid="k1")),
    Attack("RS256 by EC name", "key_mismatch", lambda: sign(fresh(), kid="ec256")),
    Attack("ES256 by P-384 name", "key_mismatch", lambda: sign(fresh(), algorithm="ES256", kid="ec384")),
    Attack("PS256 by RS256 key", "key_mismatch", ps256_by_rs256),
    Attack("not text", "malformed", lambda: b64(b"\xff\xfe") + "." + b64(b"\0") + "." + b64(b"x")),
    Attack("three empty parts", "malformed", lambda: "~.~.~"),
    Attack("long", "too_large", lambda: signed(pad="x" * 13_000)),
]


_CLAIMS: Final[list[tuple[str, str, list[Any]]]] = [
    (
        "iss",
        "unknown_issuer",
        [..., None, 5, "", [ISSUER], {"a": ISSUER}, ISSUER[:-1], ISSUER.upper(), "https://t.example"],
    ),
    ("aud", "audience", [[], "", "https://other.example/mcp", ["a", "b"], AUDIENCE + "/", AUDIENCE.upper()]),
    ("aud", "claims", [..., None, 5, True, {AUDIENCE: 1}, [AUDIENCE, 5], [[AUDIENCE]]]),
    ("exp", "claims", [..., None, "9999999999", True, [], {}, -1, 1e300, 10**300, 253_402_300_800]),
    ("exp", "expired", [0, 1, 1.5]),
    ("iat", "claims", [None, "1", False, [], -1, 1e300]),
    ("iat", "not_yet_valid", [253_402_300_799]),
    ("nbf", "claims", [None, "1", True, {}, -1, 10**300]),
    ("nbf", "not_yet_valid", [253_402_300_799]),
    ("sub", "claims", [..., None, "", "  ", 5, True, ["alice"], {}]),
    ("client_id", "claims", [None, "", 5, ["app"]]),
    ("scope", "claims", [None, 5, ["a"], {"a": 1}, True]),
    ("cnf", "sender_constrained", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None]),
    ("events", "token_type", [{"http://schemas.openid.net/event/backchannel-logout": {}}]),
    ("at_hash", "token_type", ["x"]),
    ("c_hash", "token_type", ["x"]),
    ("typ", "token_type", ["ID", "Refresh", "Offline", "Logout", None, ["Bearer"]]),
    ("token_use", "token_type", ["id", "refresh"]),
    ("tok_type", "token_type", ["IT", "RT"]),
    ("_claim_names", "claims", ["groups", None, []]),
]
_TYPES: Final = ["oauth-id-jag+jwt", "application/oauth-id-jag+jwt", "id_token+jwt", "logout+jwt", "dpop+jwt", "JWE"]
_PAYLOADS: Final = {
    "two iss": b'{@,"iss":"https://idp.example.com/"}',
    "two sub": b'{@,"sub":"root"}',
    "two scope, nested": b'{@,"x":{"scope":"a","scope":"b"}}',
    "two names by escape": b'{@,"\\u0073ub":"root"}',
    "NaN": b'{@,"x":NaN}',
    "Infinity": b'{@,"x":-Infinity}',
    "1e999": b'{@,"x":1e999}',
    "5000 digits": b'{@,"x":' + b"9" * 5000 + b"}",
    "lone surrogate": b'{@,"x":"\\ud800"}',
    "not UTF-8": b'{@,"x":"\xff"}',
    "byte order mark": b"\xef\xbb\xbf{@}",
    "deep list": b'{@,"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep object": b'{@,"x":' + b'{"a":' * 1500 + b"1" + b"}" * 1500 + b"}",
    "list": b"[{@}]",
    "two documents": b"{@}{@}",
    "cut": b"{@",
}

ATTACKS: Final = [
    *_FORGERIES,
    *(
        Attack(f"{name} {str(value)[:20]}", reason, partial(signed, **{name: value}))
        for name, reason, values in _CLAIMS
        for value in values
    ),
    *(Attack(f"typ {typ!r}", "token_type", partial(signed, {"typ": typ})) for typ in (*_TYPES, "", None, 7)),
    Attack("ID token", "token_type", lambda: signed({"typ": "JWT"}, scope=..., nonce="n", aud=[AUDIENCE])),
    *(Attack(name, "malformed", partial(with_payload, text)) for name, text in _PAYLOADS.items()),
    *(Attack(f"header {name}", "malformed", partial(with_header, text)) for name, text in _PAYLOADS.items()),
]
