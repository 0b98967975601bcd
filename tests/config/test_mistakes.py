"""One test for each kind of mistake: what it says, and the line it names."""

from __future__ import annotations

import socket

import pytest

from gateway.config.loader import load
from gateway.config.problems import ConfigError
from tests.config.conftest import Desk

SHOP = "sources:\n  shop: {engine: sqlite, path: shop.db}\n"
POSTGRESQL = "sources:\n  shop:\n    engine: postgresql\n    host: db\n    database: shop\n    user: reader\n"
TOOL = "tools:\n  all_orders:\n    description: Orders.\n    source: shop\n    statement: select 1\n"

MISTAKES = {
    "unknown section": ("sorces: {}", "1: sorces: unknown key; did you mean sources?"),
    "unknown key": ("server:\n  prot: 1", "2: server.prot: unknown key; did you mean port?"),
    "unknown key far from all": (
        "admin:\n  zzz: 1",
        "2: admin.zzz: unknown key; known here: host, port",
    ),
    "key of another engine": (
        SHOP.replace("path:", "hosts: x, path:"),
        "2: sources.shop.hosts: unknown key; known here: access, connect_timeout, credentials, engine, path, pool, "
        "required, session, statement_timeout",
    ),
    "not an integer": ("server:\n  port: ten", '2: server.port: expected an integer, got text "ten"'),
    "quoted number": ('server: {port: "8080"}', '1: server.port: expected an integer, got text "8080"'),
    "fraction": ("server: {port: 80.0}", "1: server.port: expected an integer, got the number 80.0"),
    "boolean for a number": ("server: {port: true}", "1: server.port: expected an integer, got true"),
    "not a boolean": (
        SHOP.replace("}", ", required: yes}"),
        '2: sources.shop.required: expected true or false, got text "yes"',
    ),
    "not text": ("server: {host: 127}", "1: server.host: expected text, got the number 127; put it in quotes"),
    "nothing given": ("server: {host: }", "1: server.host: expected text, got nothing"),
    "empty section": ("server:", "1: server: expected a mapping, got nothing"),
    "list for a section": ("server: [1]", "1: server: expected a mapping, got a list of 1"),
    "text for a list": (
        "server: {allowed_hosts: a}",
        '1: server.allowed_hosts: expected a list, got text "a"',
    ),
    "text for names": ("tools: a", '1: tools: expected a mapping, got text "a"'),
    "mapping for text": ("server: {host: {a: b}}", "1: server.host: expected text, got a mapping"),
    "wrong item": (
        "server:\n  allowed_hosts:\n    - a\n    - 7",
        "4: server.allowed_hosts.1: expected text, got the number 7; put it in quotes",
    ),
    "not in the list": (
        "server: {numbers: yes}",
        '1: server.numbers: expected one of exact or string, got text "yes"',
    ),
    "version that YAML takes for a number": (
        POSTGRESQL + "    tls: {min_version: 1.2}\n",
        "7: sources.shop.tls.min_version: expected one of 1.2 or 1.3, got the number 1.2; put it in quotes",
    ),
    "too small": ("limits: {burst: 0}", "1: limits.burst: expected at least 1, got the number 0"),
    "too large": ("server: {port: 65536}", "1: server.port: expected at most 65535, got the number 65536"),
    "no unit": (
        "server: {call_timeout: 60}",
        "1: server.call_timeout: expected a duration with its unit, such as 500ms, 30s or 5m, got the number 60",
    ),
    "no size": (
        "server: {max_request_bytes: 1MB}",
        '1: server.max_request_bytes: expected a size with its unit, such as 64KiB or 1MiB, got text "1MB"',
    ),
    "endless duration": (
        "server: {call_timeout: 366d}",
        '1: server.call_timeout: expected a duration of at most 365d, got text "366d"',
    ),
    "no time at all": ("server: {call_timeout: 0s}", '1: server.call_timeout: expected more than 0s, got text "0s"'),
    "small request": (
        "server: {max_request_bytes: 10B}",
        '1: server.max_request_bytes: expected at least 1KiB, got text "10B"',
    ),
    "all addresses by omission": (
        "server: {host: ''}",
        '1: server.host: expected text that is not empty, got text ""',
    ),
    "empty text": (
        POSTGRESQL.replace("host: db", 'host: ""'),
        '4: sources.shop.host: expected text that is not empty, got text ""',
    ),
    "missing key": (POSTGRESQL.replace("    host: db\n", ""), "2: sources.shop.host: missing; give host, or hosts"),
    "host and hosts": (
        POSTGRESQL + "    hosts: [{host: other}]\n",
        "7: sources.shop.hosts: expected either host or hosts, got both",
    ),
    "password and token": (
        POSTGRESQL
        + "    password: ${env:WORD}\n"
        + "    token: {url: 'https://idp.test/t', client_id: a, client_secret: '${env:WORD}'}\n",
        "8: sources.shop.token: expected either password or token, got both",
    ),
    "token in the clear": (
        POSTGRESQL + "    token: {url: 'http://idp.test/t', client_id: a, client_secret: '${env:WORD}'}\n",
        "7: sources.shop.token.url: expected https; http is for loopback only",
    ),
    "session of SQLite": (
        "sources:\n  shop: {engine: sqlite, path: a, session: {app.user: subject}}",
        "2: sources.shop.session: SQLite has no session settings and no row-level security; use :parameters, or"
        " another engine",
    ),
    "accounts of SQLite": (
        "sources:\n  shop: {engine: sqlite, path: a, credentials: [{when: {scope: a}, user: b}]}",
        "2: sources.shop.credentials: SQLite has no accounts; use scopes of tools, or another engine",
    ),
    "account for nobody": (
        POSTGRESQL + "    credentials:\n      - {when: {}, user: clerk}\n",
        "8: sources.shop.credentials.0.when: expected either scope, or claim and equals",
    ),
    "account by claim of any value": (
        POSTGRESQL + "    credentials:\n      - {when: {scope: a, claim: b}, user: clerk}\n",
        "8: sources.shop.credentials.0.when: expected either scope, or claim and equals",
    ),
    "account by scope and claim": (
        POSTGRESQL + "    credentials:\n      - {when: {scope: a, claim: b, equals: c}, user: clerk}\n",
        "8: sources.shop.credentials.0.when: expected either scope, or claim and equals",
    ),
    "account by no claim": (
        POSTGRESQL + "    credentials:\n      - {when: {claim: a..b, equals: c}, user: clerk}\n",
        "8: sources.shop.credentials.0.when.claim: expected the name of a claim, with dots into nested ones,"
        ' got text "a..b"',
    ),
    "account that is the source's own": (
        POSTGRESQL + "    credentials:\n      - {when: {scope: a}, user: reader}\n",
        "8: sources.shop.credentials.0.user: expected another account than the source's own, which serves no caller",
    ),
    "account with two passwords": (
        POSTGRESQL
        + "    credentials:\n      - {when: {scope: a}, user: b}\n"
        + "      - {when: {scope: c}, user: b, password: '${env:WORD}'}\n",
        "9: sources.shop.credentials.1.password: expected the same as credentials.0.password, since it is the same"
        " user's",
    ),
    "too many accounts": (
        POSTGRESQL + "    credentials: [" + "{when: {scope: a}, user: b}, " * 65 + "]\n",
        "7: sources.shop.credentials: expected at most 64 items, got a list of 65",
    ),
    "session setting without a dot": (
        POSTGRESQL + "    session: {search_path: subject}\n",
        "7: sources.shop.session.search_path: expected a name with a dot, such as app.tenant: letters, digits and _,"
        " at most 63 characters",
    ),
    "session value of no kind": (
        POSTGRESQL + "    session: {app.user: email}\n",
        "7: sources.shop.session.app.user: expected subject, issuer, client_id, correlation_id or claim:PATH,"
        ' got text "email"',
    ),
    "no engine": (
        "sources:\n  shop: {path: a}",
        "2: sources.shop.engine: missing; expected one of mysql, oracle, postgresql, sqlite",
    ),
    "engine of another version": (
        "sources:\n  shop:\n    engine: db2",
        "3: sources.shop.engine: expected an engine of this version, mysql or oracle or postgresql or sqlite, "
        'got text "db2"',
    ),
    "bad name": (
        "sources:\n  1shop: {engine: sqlite, path: a}",
        "2: sources.1shop: expected a name of at most 64 letters, digits, _ . - that starts with a letter",
    ),
    "no scopes": (
        TOOL.replace("    statement", "    scopes: []\n    statement") + SHOP,
        "5: tools.all_orders.scopes: expected at least 1 item, got a list of 0",
    ),
    "unknown source": (
        SHOP + TOOL.replace("source: shop", "source: shp"),
        "6: tools.all_orders.source: there is no source of this name; did you mean shop?",
    ),
    "no source at all": (TOOL, "4: tools.all_orders.source: there is no source of this name"),
    "both schemas": (
        SHOP + TOOL + "    parameters: {}\n    input_schema: {type: object}\n",
        "9: tools.all_orders.input_schema: expected either parameters or input_schema, got both",
    ),
    "write on read-only": (
        SHOP + TOOL + "    writes: true\n",
        "8: tools.all_orders.writes: true is refused, since sources.shop.access is read-only",
    ),
    "idempotent read": (
        SHOP + TOOL + "    idempotent: true\n",
        "8: tools.all_orders.idempotent: true is for tools with writes: true; a read is idempotent anyway",
    ),
    "pool upside down": (
        POSTGRESQL + "    pool:\n      max: 1\n",
        "7: sources.shop.pool.min: expected at most pool.max, which is 1, got 2",
    ),
    "half of mutual TLS": (
        POSTGRESQL + "    tls: {certificate: a.pem}\n",
        "7: sources.shop.tls.certificate: expected key beside it; mutual TLS needs both",
    ),
    "one port for both": ("admin: {port: 8080}", "1: admin.port: expected another port than the server's, 8080"),
    "one port on all addresses": (
        "admin: {host: 0.0.0.0, port: 8080}",
        "1: admin.port: expected another port than the server's, 8080",
    ),
    "public_url with a path": (
        "server: {public_url: https://a.example/mcp}",
        "1: server.public_url: expected scheme://host or scheme://host:port and nothing more",
    ),
    "public_url with a password": (
        'server: {public_url: "https://me:hunter2@a.example"}',
        "1: server.public_url: expected scheme://host or scheme://host:port and nothing more",
    ),
    "public_url with a space": (
        "server: {public_url: 'https://a .example'}",
        "1: server.public_url: expected scheme://host or scheme://host:port and nothing more",
    ),
    "public_url in the clear": (
        "server: {public_url: http://a.example}",
        "1: server.public_url: expected https; http is for loopback only",
    ),
    "public_url with a bad port": (
        "server: {public_url: 'https://a.example:99999'}",
        "1: server.public_url: expected scheme://host or scheme://host:port and nothing more",
    ),
    "origin that is none": (
        "server: {allowed_origins: [https://a.example, https://b.example/]}",
        "1: server.allowed_origins.1: expected scheme://host or scheme://host:port and nothing more",
    ),
    "host that is a URL": (
        "server: {allowed_hosts: [https://a.example]}",
        "1: server.allowed_hosts.0: expected a host, or host:port, without scheme or path",
    ),
    "proxy that is no network": (
        "server: {trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]}",
        "1: server.trusted_proxies.1: expected a network such as 10.0.0.0/8, with no address bits beyond the prefix",
    ),
    "unset variable": (
        "server: {host: '${env:HOST}'}",
        "1: server.host: set the environment variable HOST, or give a default: ${env:HOST:-...}",
    ),
    "unset variable in a list": (
        "server:\n  allowed_hosts:\n    - a\n    - ${env:HOST}",
        "4: server.allowed_hosts.1: set the environment variable HOST, or give a default: ${env:HOST:-...}",
    ),
    "unknown reference": (
        "server:\n  host: ${HOST}",
        "2: server.host: expected ${env:NAME}, ${env:NAME:-default} or ${file:path}; write $${ for a literal ${",
    ),
    "secret in the open": (
        POSTGRESQL + "    password: hunter2\n",
        "7: sources.shop.password: expected a reference such as ${file:/run/secrets/name} or ${env:NAME}; "
        "secrets stay outside",
    ),
    "empty secret": (
        POSTGRESQL + "    password: ${env:EMPTY}\n",
        "7: sources.shop.password: expected a secret that is not empty",
    ),
    "list for a secret": (POSTGRESQL + "    password: ['${env:EMPTY}']\n", "7: sources.shop.password: expected text"),
    "wrong value from elsewhere": (
        "server:\n  port: ${env:WORD}",
        "2: server.port: expected an integer, got what ${env:WORD} gives",
    ),
    "twice in one mapping": (
        "server:\n  port: 1\n  host: a\n  port: 2",
        "4: server.port: defined twice; first at gateway.yaml:3",
    ),
    "a section twice": ("server: {}\nadmin: {}\nserver: {}", "3: server: defined twice; first at gateway.yaml:2"),
    "a tag": ("server: {host: !!python/name:os.system x}", "1: server.host: YAML tags are not supported"),
    "unknown alias": ("server: {host: *there}", "1: server.host: there is no anchor &there before this alias"),
    "merge of no mapping": ("server: {<<: 7}", "1: server: expected an alias of a mapping after <<"),
    "mapping as a key": ("server: {[a]: b}", "1: server: expected text as a key"),
    "second document": ("---\nserver: {}", "1: expected one document in a file; this starts another"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_names_line_key_and_what_was_expected(desk: Desk, kind: str) -> None:
    text, expected = MISTAKES[kind]
    desk.environment = {"WORD": "hunter2", "EMPTY": ""}
    problems = [line.replace(f"{desk.folder}/", "") for line in desk.problems(text)]
    assert [line[: len(expected)] if expected.endswith(("supported",)) else line for line in problems] == [expected]
    assert "hunter2" not in "".join(problems)


SYNTAX = {
    "open bracket": ("a:\n  - [1", 3, "not valid YAML: did not find expected ',' or ']'"),
    "tab": ("a:\n\tb: c", 2, "not valid YAML: found character that cannot start any token"),
    "control character": ("a: b\nc: \x01", 2, "not valid YAML: a control character"),
    "unquoted reference between braces": (
        "a:\n  b: {password: ${env:HUNTER2}}",
        2,
        "not valid YAML: did not find expected ',' or '}'; between { } or [ ] a reference needs quotes: \"${...}\"",
    ),
}


@pytest.mark.parametrize("kind", SYNTAX)
def test_syntax_error_names_its_line(desk: Desk, kind: str) -> None:
    text, line, message = SYNTAX[kind]
    assert desk.folder_problems(a=text) == [f"a.yaml:{line}: {message}"]


def test_syntax_error_does_not_show_the_line_itself(desk: Desk) -> None:
    [problem] = desk.folder_problems(a="password: 'hunter2\nb: c")
    assert "hunter2" not in problem


def test_bytes_that_are_not_utf8(desk: Desk) -> None:
    file = desk.folder / "a.yaml"
    file.write_bytes(b"a: b\nc: \xff")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"{file}:2: expected text in UTF-8"


def test_file_that_cannot_be_opened(desk: Desk) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(desk.folder / "a.yaml"))
        with pytest.raises(ConfigError, match=r"a\.yaml:1: cannot be read: No such device or address"):
            load(desk.folder / "a.yaml")


def test_every_mistake_is_shown_at_once_in_order_of_lines(desk: Desk) -> None:
    problems = desk.problems(
        "server: {port: ten, prot: 1}\n"
        "sources:\n"
        "  shop:\n"
        "    engine: postgresql\n"
        "    hots: db\n"
        "    database: ${env:DATABASE}\n"
        "    user: reader\n"
        "    pool: {min: 5, max: 1}\n"
        "  other: {engine: db2}\n"
        "tools:\n"
        "  one: {description: ${env:TEXT}, source: shp, statement: select 1}\n".replace("${env:TEXT}", "'${env:TEXT}'")
        + "  two: {source: other, writes: true}\n"
    )
    assert [problem.split(";")[0] for problem in problems] == [
        '1: server.port: expected an integer, got text "ten"',
        "1: server.prot: unknown key",
        "3: sources.shop.host: missing",
        "5: sources.shop.hots: unknown key",
        "6: sources.shop.database: set the environment variable DATABASE, or give a default: ${env:DATABASE:-...}",
        "8: sources.shop.pool.min: expected at most pool.max, which is 1, got 5",
        "9: sources.other.engine: expected an engine of this version, mysql or oracle or postgresql or sqlite, "
        'got text "db2"',
        "11: tools.one.description: set the environment variable TEXT, or give a default: ${env:TEXT:-...}",
        "11: tools.one.source: there is no source of this name",
        "12: tools.two.description: missing",
        "12: tools.two.statement: missing",
    ]


def test_mistake_is_not_followed_by_mistakes_it_causes(desk: Desk) -> None:
    problems = desk.problems(
        "sources:\n  shop: {engine: sqlite, path: a, access: both, pool: {min: 20, max: x}}\n" + TOOL
    )
    assert [problem.split(": ")[1] for problem in problems] == ["sources.shop.access", "sources.shop.pool.max"]


KEY = "k" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("url: redis.internal:6379", "url: expected rediss://host:port or rediss://host:port/number"),
        ("url: rediss://redis.internal/?db=1", "url: expected rediss://host:port or rediss://host:port/number"),
        ("url: rediss://redis.internal/one", "url: expected rediss://host:port or rediss://host:port/number"),
        ("url: 'rediss://:word@redis.internal/'", "url: expected rediss://host:port or rediss://host:port/number"),
        ("url: redis://redis.internal", "url: expected rediss; redis without TLS is for loopback only"),
        ("user: gateway", "user: expected a password beside it"),
        ("key: ${env:SHORT}", "key: expected at least 32 characters; `openssl rand -base64 32` makes such a key"),
        ("prefix: two words", "prefix: "),
    ],
)
def test_mistake_in_redis(desk: Desk, text: str, expected: str) -> None:
    entries = {"url": "url: rediss://redis.internal:6379/0", "key": "key: ${env:KEY}"}
    entries[text.partition(":")[0]] = text
    desk.write(a="redis:\n" + "".join(f"  {entry}\n" for entry in entries.values()))
    with pytest.raises(ConfigError) as caught:
        load(desk.folder, environment={"KEY": KEY, "SHORT": KEY[1:], **desk.environment})
    [problem] = [problem for problem in caught.value.problems if problem.path[0] == "redis"]
    assert f"redis.{expected}" in str(problem)
    assert KEY[1:] not in str(problem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{client_secret: '${env:KEY}'}", "introspection.client_id: missing; it has no default"),
        ("{client_id: a}", "introspection.client_secret: expected either client_secret or private_key, got neither"),
        (
            "{client_id: a, client_secret: '${env:KEY}', private_key: '${env:KEY}'}",
            "introspection.client_secret: expected either client_secret or private_key, got both",
        ),
        (
            "{client_id: a, client_secret: '${env:KEY}', endpoint: 'http://idp.example.com/i'}",
            "introspection.endpoint: expected https; http is for loopback only",
        ),
        (
            "{client_id: a, client_secret: '${env:KEY}', opaque: false}",
            "introspection.required: expected true where opaque is false; nothing would ever be asked",
        ),
        ("{client_id: a, client_secret: word}", "introspection.client_secret: expected a reference"),
    ],
)
def test_mistake_in_introspection(desk: Desk, text: str, expected: str) -> None:
    desk.environment["KEY"] = KEY
    [problem] = desk.folder_problems(
        a=f"auth:\n  issuers:\n    - {{issuer: https://a, audiences: [b], introspection: {text}}}"
    )
    assert problem.startswith(f"a.yaml:3: auth.issuers.0.{expected}")


def test_entra_answers_no_questions(desk: Desk) -> None:
    desk.environment["KEY"] = KEY
    tenant = "00000000-0000-0000-0000-000000000001"
    issuer = f"preset: entra, tenant: {tenant}, audiences: [{tenant}]"
    asked = "introspection: {client_id: a, client_secret: '${env:KEY}'}"
    [problem] = desk.folder_problems(a=f"auth:\n  issuers:\n    - {{{issuer}, {asked}}}")
    assert problem.startswith("a.yaml:3: auth.issuers.0.introspection: Entra answers no questions")


def test_a_shared_cache_needs_a_redis(desk: Desk) -> None:
    [problem] = desk.folder_problems(
        a="auth:\n  issuers: [{issuer: https://a, audiences: [b]}]\n  cache: {backend: redis}"
    )
    assert problem == "a.yaml:3: auth.cache.backend: expected the section redis beside it"


class TestAuthentication:
    """Mistakes in the section auth, which needs files without the usual issuer."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("auth: {mode: jwt}", "1: auth.issuers: expected at least one issuer, since auth.mode is jwt"),
            ("server: {}", "1: auth.issuers: expected at least one issuer, since auth.mode is jwt"),
            ("auth: {mode: open}", '1: auth.mode: expected one of jwt or none, got text "open"'),
            ("server: {host: 0.0.0.0}\nauth: {mode: none}", "2: auth.mode: none is refused off loopback"),
            ("server: {host: '::'}\nauth: {mode: none}", "2: auth.mode: none is refused off loopback"),
            (
                "auth: {mode: none}\nserver: {public_url: https://mcp.example.com}",
                "1: auth.mode: none is refused off loopback",
            ),
            ("auth:\n  issuers: [{audiences: [a]}]", "2: auth.issuers.0.issuer: missing; it has no default"),
            ("auth:\n  issuers: [{issuer: https://a}]", "2: auth.issuers.0.audiences: missing; it has no default"),
            (
                "auth:\n  issuers:\n    - issuer: https://a\n      audiences: []",
                "4: auth.issuers.0.audiences: expected at least 1 item, got a list of 0",
            ),
            (
                "auth:\n  issuers:\n    - issuer: https://a\n      audiences: [a]\n      algorithms: [HS256]",
                "5: auth.issuers.0.algorithms.0: expected one of RS256, RS384",
            ),
            (
                "auth:\n  issuers:\n    - {issuer: https://a, audiences: [a]}\n    - {audiences: [a], issuer: https://a}",
                "4: auth.issuers.1.issuer: the same as auth.issuers.0; give it once, with all audiences",
            ),
            (
                "auth:\n  issuers: [{issuer: http://idp.example.com, audiences: [a]}]",
                "2: auth.issuers.0.issuer: expected https; http is for loopback only",
            ),
            (
                "auth:\n  issuers: [{issuer: idp, audiences: [a]}]",
                "2: auth.issuers.0.issuer: expected an absolute URL",
            ),
            (
                "auth:\n  issuers: [{issuer: https://a?b=c, audiences: [a]}]",
                "2: auth.issuers.0.issuer: expected an absolute URL",
            ),
            (
                "auth:\n  issuers: [{issuer: https://a, audiences: [a], jwks_uri: http://a.example/keys}]",
                "2: auth.issuers.0.jwks_uri: expected https; http is for loopback only",
            ),
            (
                "auth: {mode: none}\nserver:\n  tls: {certificate: a, key: b, client_certificates: optional}",
                "3: server.tls.client_certificates: expected client_ca beside it: the authorities to trust",
            ),
            (
                "auth: {mode: none}\nserver:\n  public_url: http://localhost\n  tls: {certificate: a, key: b}",
                "3: server.public_url: expected https, since server.tls is set",
            ),
            ("auth: {mode: none}\nserver:\n  tls: {certificate: a}", "3: server.tls.key: missing"),
            (
                "auth: {mode: none}\nserver:\n  max_result_bytes: 10B",
                "3: server.max_result_bytes: expected at least 1KiB",
            ),
            (
                "auth:\n  issuers: [{issuer: https://a, audiences: [a], leeway: 5m}]",
                '2: auth.issuers.0.leeway: expected at most 1m, got text "5m"',
            ),
        ],
    )
    def test_mistake(self, desk: Desk, text: str, expected: str) -> None:
        [problem] = desk.folder_problems(a=text)
        assert problem.removeprefix("a.yaml:").startswith(expected)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
    def test_none_is_accepted_on_loopback(self, desk: Desk, host: str) -> None:
        desk.write(a=f"auth: {{mode: none}}\nserver: {{host: '{host}', public_url: 'http://localhost:8080'}}")
        assert load(desk.folder).settings.auth.mode == "none"

    def test_none_is_refused_where_the_command_line_leaves_loopback(self, desk: Desk) -> None:
        desk.write(a="auth: {mode: none}")
        with pytest.raises(ConfigError, match=r"a\.yaml:1: auth\.mode: none is refused off loopback"):
            load(desk.folder, server={"host": "0.0.0.0"})

    def test_plain_http_is_accepted_on_loopback(self, desk: Desk) -> None:
        desk.write(
            a="auth: {issuers: [{issuer: 'http://127.0.0.1:9/', audiences: [a], jwks_uri: 'http://[::1]/k?v=1'}]}"
        )
        assert load(desk.folder).settings.auth.issuers[0].issuer == "http://127.0.0.1:9/"
