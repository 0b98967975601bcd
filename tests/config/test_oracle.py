"""What an Oracle source may say, and what contradicts itself."""

from __future__ import annotations

import pytest

from gateway.config.sources import OracleSettings
from tests.config.conftest import Desk

HERE = "sources: {ora: {engine: oracle, "
LOGIN = "user: reader, password: '${env:S}', "
GOOD = f"host: db.example.com, service: SHOP, {LOGIN}"
OCI = (
    "oci_token: {region: eu-frankfurt-1, tenancy: ocid1.tenancy.oc1..a, user: ocid1.user.oc1..b, "
    "fingerprint: '12:34', key: '${env:S}'}, "
)
TOKEN = "token: {url: https://idp.example.com/token, client_id: a, client_secret: '${env:S}'}, "


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "hosts: [{host: a.example.com}, {host: b.example.com, port: 1522}], service: SHOP, " + LOGIN,
        "dsn: 'tcps://db.example.com:2484/SHOP', " + LOGIN,
        "dsn: '(DESCRIPTION=(ADDRESS=(PROTOCOL=tcps)(HOST=a)(PORT=2484))(CONNECT_DATA=(SERVICE_NAME=S)))', " + LOGIN,
        GOOD.replace(LOGIN, TOKEN),
        GOOD.replace(LOGIN, OCI),
        GOOD.replace(LOGIN, "token_folder: /run/secrets/db-token, "),
        GOOD + "wallet: wallet, wallet_password: '${env:S}', ",
        GOOD + "pooled: true, connection_class: GATEWAY, ",
        GOOD + "session: {userenv.client_identifier: subject}, ",
        GOOD + "session: {app.tenant: 'claim:tenant'}, context_procedure: SECURITY.APP_CTX.SET_VALUE, ",
        GOOD + "credentials: [{when: {scope: hr}, user: 'reader[hr_app]', password: '${env:S}'}], ",
        GOOD.replace("db.example.com", "127.0.0.1"),
        GOOD.replace("db.example.com", "10.0.0.7") + "server_dn: 'CN=db', ",
        GOOD.replace("db.example.com", "10.0.0.7") + "tls: {mode: verify-ca}, ",
    ],
)
def test_what_fits_is_taken(desk: Desk, text: str) -> None:
    desk.environment["S"] = "secret"
    source = desk.load(f"{HERE}{text}}}}}").settings.sources["ora"]
    assert isinstance(source, OracleSettings)


MISTAKES = {
    "nowhere": (LOGIN, ["host: missing; give host", "service: missing"]),
    "twice somewhere": (
        GOOD + "dsn: 'h/S'",
        ["dsn: expected one of host, hosts and dsn, got host and dsn", "within dsn"],
    ),
    "no service": ("host: db.example.com, " + LOGIN, ["service: missing"]),
    "an alias": ("dsn: SHOP_PROD, " + LOGIN, ["TNS aliases are not resolved"]),
    "a password in the dsn": (
        "dsn: 'scott/tiger@db.example.com/SHOP', " + LOGIN,
        ["expected no user and password in it"],
    ),
    "a user in the descriptor": ("dsn: '(DESCRIPTION=(user = x))', " + LOGIN, ["expected no user and password in it"]),
    "nobody": (
        "host: db.example.com, service: S",
        ["user: missing; give user and password, token, oci_token or token_folder"],
    ),
    "neither region nor address": (
        GOOD.replace(LOGIN, OCI.replace("region: eu-frankfurt-1, ", "")),
        ["oci_token.region: expected either region or url"],
    ),
    "a region that is none": (
        GOOD.replace(LOGIN, OCI.replace("eu-frankfurt-1", "evil.example.com/x")),
        ["oci_token.region: expected a region's name, such as eu-frankfurt-1"],
    ),
    "an address in the clear": (
        GOOD.replace(LOGIN, OCI.replace("region: eu-frankfurt-1", "url: 'http://auth.example.com/'")),
        ["oci_token.url: expected https"],
    ),
    "two tokens": (
        GOOD.replace(LOGIN, OCI + "token_folder: /run/token, "),
        ["oci_token: expected either token_folder or oci_token, got both"],
    ),
    "files of a token in the clear": (
        GOOD.replace(LOGIN, "token_folder: /run/token, tls: {mode: disable}, "),
        ["tls.mode: expected TLS; a database takes no token without"],
    ),
    "two logins": (
        GOOD + TOKEN,
        ["token: expected either user or token, got both", "token: expected either password or token, got both"],
    ),
    "a password that a wallet is to have": (
        GOOD.replace("password: '${env:S}', ", "wallet: w"),
        ["password: missing; give user and password, token, oci_token or token_folder. A password within a wallet"],
    ),
    "a login that a wallet is to have": (
        GOOD.replace(LOGIN, "wallet: w"),
        ["user: missing; give user and password, token, oci_token or token_folder. A password within a wallet"],
    ),
    "a login that the dsn is to find": (
        "dsn: '/@shop_prod', " + LOGIN,
        ["dsn: expected no login in it; give user and password, token, oci_token or token_folder. A"],
    ),
    "an account without a password": (
        GOOD + "credentials: [{when: {scope: hr}, user: 'reader[hr_app]'}]",
        ["credentials.0.password: missing; give user and password"],
    ),
    "a token in the clear": (
        GOOD.replace(LOGIN, TOKEN + "tls: {mode: disable}"),
        ["tls.mode: expected TLS; a database takes no token without"],
    ),
    "another name": (GOOD + "tls: {server_name: x}", ["tls.server_name: expected server_dn of the source instead"]),
    "two sources of certificates": (GOOD + "wallet: w, tls: {ca: c}", ["tls.ca: expected either wallet or tls.ca"]),
    "half a pair": (GOOD + "tls: {certificate: c}", ["tls.certificate: expected key beside it"]),
    "a wallet without TLS": (GOOD + "wallet: w, tls: {mode: disable}", ["tls.mode: a wallet is for TLS"]),
    "a password for no wallet": (GOOD + "wallet_password: '${env:S}'", ["wallet_password: expected wallet beside it"]),
    "an address to verify": (GOOD.replace("db.example.com", "10.0.0.7"), ["host: expected a host name in full"]),
    "an address among hosts": (
        "hosts: [{host: '::7'}], service: S, " + LOGIN,
        ["hosts.0.host: expected a host name in full"],
    ),
    "a class without a pool": (GOOD + "connection_class: A", ["connection_class: expected pooled: true"]),
    "nobody sets it": (GOOD + "session: {app.tenant: subject}", ["session.app.tenant: expected context_procedure"]),
    "not ours to set": (
        GOOD + "session: {userenv.sid: subject}",
        ["session.userenv.sid: expected one of userenv.client"],
    ),
    "capitals": (GOOD + "session: {USERENV.CLIENT_INFO: subject}", ["expected it in lower case"]),
    "nothing to set": (GOOD + "context_procedure: p", ["context_procedure: expected names under session"]),
    "no procedure's name": (GOOD + "context_procedure: 'p; drop', session: {a.b: subject}", ["a procedure's name"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_contradicts_itself_is_named(desk: Desk, name: str) -> None:
    text, expected = MISTAKES[name]
    desk.environment["S"] = "secret"
    told = desk.problems(f"{HERE}{text}}}}}")
    assert len(told) == len(expected), told
    for line, part in zip(told, expected, strict=True):
        assert part in line
