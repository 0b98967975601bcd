"""What a configuration means once it is right: merging, places, paths, references, freezing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config.loader import Configuration, load
from gateway.config.models import GatewaySettings
from gateway.config.problems import ConfigError, Place
from gateway.config.sources import PostgresqlSettings, SqliteSettings
from tests.config.conftest import ISSUER, Desk

TOOL = """\
sources: {s: {engine: sqlite, path: a}}
tools:
  a:
    description: a
    source: s
    statement: select 1
"""
POSTGRESQL = """\
sources:
  shop:
    engine: postgresql
    host: db.internal
    port: ${env:PORT}
    database: shop-${env:STAGE:-test}
    user: reader
    password: ${file:password}
    tls: {ca: certificates/ca.pem, certificate: /etc/a.pem, key: /etc/a.key}
"""


def test_empty_settings_have_the_documented_defaults(desk: Desk) -> None:
    settings = desk.load("").settings
    assert (settings.server.port, settings.admin.port) == (8080, 9464)
    assert settings.auth.default_scopes == ("mcp:tools",)
    assert not settings.sources
    assert not settings.tools


def test_byte_order_mark_is_no_part_of_the_first_key(desk: Desk) -> None:
    (desk.folder / "a.yaml").write_text(ISSUER, encoding="utf-8-sig")
    assert len(load(desk.folder).settings.auth.issuers) == 1


def test_problem_without_any_place_is_still_a_sentence() -> None:
    problem = Configuration(GatewaySettings(), {}).problem(("sources", "shop"), "is down")
    assert str(problem) == "sources.shop: is down"


def test_durations_are_seconds_and_sizes_bytes(desk: Desk) -> None:
    server = desk.load("server: {call_timeout: 500ms, shutdown_grace: 2m, max_request_bytes: 64KiB}").settings.server
    assert (server.call_timeout, server.shutdown_grace, server.max_request_bytes) == (0.5, 120.0, 65536)


def test_references_become_what_the_setting_wants(desk: Desk) -> None:
    (desk.folder / "password").write_text("12345\n")
    desk.environment = {"PORT": "5433"}
    source = desk.load(POSTGRESQL).settings.sources["shop"]
    assert isinstance(source, PostgresqlSettings)
    assert (source.port, source.database) == (5433, "shop-test")
    assert source.password is not None
    assert source.password.get_secret_value() == "12345"


def test_boolean_from_a_reference(desk: Desk) -> None:
    desk.environment = {"REQUIRED": "true"}
    text = "sources: {a: {engine: sqlite, path: a, required: '${env:REQUIRED}'}}"
    assert desk.load(text).settings.sources["a"].required


def test_part_of_a_value_never_becomes_a_number(desk: Desk) -> None:
    desk.environment = {"PORT": "80"}
    assert desk.problems("server: {port: '${env:PORT}80'}") == [
        "1: server.port: expected an integer, got what ${env:PORT}80 gives"
    ]


def test_relative_paths_start_at_the_folder_of_their_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.environment = {"PORT": "1"}
    (desk.folder / "password").write_text("x")
    desk.write(gateway=ISSUER + POSTGRESQL + "  local: {engine: sqlite, path: data/shop.db}\n")
    monkeypatch.chdir(desk.folder.parent)
    path = Path(desk.folder.name) / "gateway.yaml"
    sources = load(path, environment=desk.environment).settings.sources
    shop, local = sources["shop"], sources["local"]
    assert isinstance(shop, PostgresqlSettings)
    assert isinstance(local, SqliteSettings)
    assert shop.tls.ca == desk.folder / "certificates/ca.pem"
    assert shop.tls.certificate == Path("/etc/a.pem")
    assert local.path == desk.folder / "data/shop.db"


@pytest.mark.parametrize(
    "written", ["no", "on", "010", "0o17", "0x1F", "12:30:45", "2026-07-28", "1_000", ".inf", "=", "1e999"]
)
def test_words_that_older_yaml_took_for_something_else_stay_text(desk: Desk, written: str) -> None:
    text = TOOL + f"    parameters: {{p: {{default: {written}}}}}\n    title: {written}\n"
    loaded = desk.load(text).settings.tools["a"]
    assert loaded.title == written
    assert loaded.parameters == {"p": {"default": written}}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("9" * 200, int("9" * 200)),
        ("'7'", "7"),
        ('"true"', "true"),
        ("!!str 7", "7"),
    ],
)
def test_core_scalars(desk: Desk, written: str, value: object) -> None:
    schema = desk.load(TOOL + f"    input_schema: {{a: {written}}}").settings.tools["a"].input_schema
    assert schema == {"a": value}
    assert schema is not None
    assert type(schema["a"]) is type(value)


def test_statement_is_left_as_it_is_written(desk: Desk) -> None:
    statement = "select '{a}', $1, data->>'$.x', 'a$${b}'  -- no: yes\nfrom t\n"
    text = "tools:\n  a:\n    description: a\n    source: s\n    statement: |\n      " + statement.replace(
        "\n", "\n      "
    )
    loaded = desk.load(f"sources: {{s: {{engine: sqlite, path: a}}}}\n{text}")
    assert loaded.settings.tools["a"].statement == statement.replace("$${", "${").strip()


class TestFolder:
    """Several files as one configuration."""

    def test_sections_are_merged(self, desk: Desk) -> None:
        desk.write(
            a=ISSUER + "server: {port: 1}\nsources: {one: {engine: sqlite, path: a}}",
            b="server: {host: localhost}\nauth: {cache: {max_entries: 5}}\nsources: {two: {engine: sqlite, path: b}}",
            c="# nothing but a comment",
        )
        (desk.folder / ".hidden.yaml").write_text("a: [")
        (desk.folder / "notes.txt").write_text("a: [")
        settings = load(desk.folder).settings
        assert (settings.server.host, settings.server.port) == ("localhost", 1)
        assert (len(settings.auth.issuers), settings.auth.cache.max_entries) == (1, 5)
        assert set(settings.sources) == {"one", "two"}

    @pytest.mark.parametrize(
        ("first", "second", "key"),
        [
            ("server: {port: 1}", "server: {port: 1}", "server.port"),
            ("tools: {t: {description: a}}", "tools: {t: {source: s}}", "tools.t"),
            ("sources: {s: {engine: sqlite}}", "sources: {s: {path: a}}", "sources.s"),
            ("server: {allowed_hosts: [a]}", "server: {allowed_hosts: [b]}", "server.allowed_hosts"),
            ("server: {port: 1}", "server:", "server"),
        ],
    )
    def test_definition_in_two_files_names_both(self, desk: Desk, first: str, second: str, key: str) -> None:
        problems = desk.folder_problems(a=first, b="# about\n" + second)
        assert f"b.yaml:2: {key}: defined twice; first at a.yaml:1" in problems

    def test_mistakes_of_all_files_show_at_once(self, desk: Desk) -> None:
        problems = desk.folder_problems(a="server:\n  [}", b="server: ]", c="- a", d=ISSUER)
        assert [problem.split(": ")[0] for problem in problems] == ["a.yaml:2", "b.yaml:1", "c.yaml:1"]

    def test_empty_folder(self, desk: Desk) -> None:
        (desk.folder / "a.yml").write_text(ISSUER)
        with pytest.raises(ConfigError, match=r"there is no \*\.yaml in this folder; files ending in \.yml"):
            load(desk.folder)

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n", "{}", "null"])
    def test_empty_configuration(self, desk: Desk, text: str) -> None:
        [problem] = desk.folder_problems(a=text)
        assert "empty" in problem

    def test_no_such_file(self, desk: Desk) -> None:
        with pytest.raises(ConfigError) as caught:
            load(desk.folder / "none.yaml")
        assert str(caught.value) == f"{desk.folder}/none.yaml: there is no such file or folder"


class TestPlaces:
    """Where each key is written."""

    def test_every_key_and_item_has_its_line(self, desk: Desk) -> None:
        configuration = desk.load("server:\n  port: 1\n  allowed_hosts:\n    - a\n    - b\n")
        lines = {path: place.line for path, place in configuration.places.items() if path[:1] == ("server",)}
        assert lines == {
            ("server",): 2,
            ("server", "port"): 3,
            ("server", "allowed_hosts"): 4,
            ("server", "allowed_hosts", 0): 5,
            ("server", "allowed_hosts", 1): 6,
        }

    def test_problem_is_placed_at_the_nearest_written_key(self, desk: Desk) -> None:
        configuration = desk.load("server:\n  port: 1\n")
        file = desk.folder / "gateway.yaml"
        assert configuration.problem(("server", "host"), "x").place == Place(file, 2)
        assert configuration.problem(("limits",), "x").place == Place(file, 1)
        assert str(configuration.problem(("server", "port"), "is taken")) == f"{file}:3: server.port: is taken"

    def test_alias_is_placed_where_it_stands_and_its_content_where_it_is_written(self, desk: Desk) -> None:
        configuration = desk.load(
            "sources:\n  a: &a\n    engine: sqlite\n    path: a\n  b: *a\n  c:\n    <<: *a\n    path: c\n"
        )
        places = configuration.places
        assert places["sources", "b"].line == 6
        assert places["sources", "b", "path"].line == 5
        assert places["sources", "c", "engine"].line == 4
        assert places["sources", "c", "path"].line == 9
        source = configuration.settings.sources["c"]
        assert isinstance(source, SqliteSettings)
        assert source.path == desk.folder / "c"


class TestBounds:
    """What someone else's file can cost."""

    def test_aliases_cannot_explode(self, desk: Desk) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
        [problem] = desk.folder_problems(a="\n".join(lines))
        assert problem.endswith("expected at most 100000 values and 64 levels; aliases make it more")

    def test_merged_mappings_cannot_explode(self, desk: Desk) -> None:
        wide = "{" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}"
        [problem] = desk.folder_problems(a=f"a: &a {wide}\n" + "\n".join(f"b{n}: {{<<: *a}}" for n in range(200)))
        assert problem.endswith("expected at most 100000 values")

    def test_aliases_cannot_nest_without_end(self, desk: Desk) -> None:
        text = "a0: &a0 x\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 5000))
        [problem] = desk.folder_problems(a=text)
        assert "64 levels" in problem

    @pytest.mark.parametrize("text", ["[" * 20000, "a: " + "{b: " * 20000, "- " * 20000, "&a [*a]"])
    def test_deep_or_circular_files_are_refused(self, desk: Desk, text: str) -> None:
        [problem] = desk.folder_problems(a=text)
        assert "64 levels of nesting" in problem or "no anchor" in problem

    def test_large_files_are_refused(self, desk: Desk) -> None:
        [problem] = desk.folder_problems(a="# " + "x" * (4 << 20))
        assert problem == "a.yaml:1: expected at most 4 MiB of YAML"


class TestSecrets:
    """Secrets show nowhere."""

    def test_secret_is_not_in_repr_of_anything(self, desk: Desk) -> None:
        (desk.folder / "password").write_text("hunter2\n")
        desk.environment = {"PORT": "1"}
        configuration = desk.load(POSTGRESQL)
        source = configuration.settings.sources["shop"]
        assert isinstance(source, PostgresqlSettings)
        assert source.password is not None
        assert source.password.get_secret_value() == "hunter2"
        for thing in (configuration, configuration.settings, source, dict(configuration.places)):
            assert "hunter2" not in repr(thing) + str(thing)

    def test_error_chain_does_not_carry_values(self, desk: Desk) -> None:
        desk.environment = {"PORT": "hunter2"}
        (desk.folder / "password").write_text("hunter2")
        with pytest.raises(ConfigError) as caught:
            desk.load(POSTGRESQL)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert "hunter2" not in repr(caught.value) + str(caught.value)


class TestFrozen:
    """Nothing can be changed after loading."""

    def test_settings_are_frozen(self, desk: Desk) -> None:
        settings = desk.load("sources: {a: {engine: sqlite, path: a}}").settings
        with pytest.raises(ValidationError):
            settings.server.port = 1  # type: ignore[misc]
        with pytest.raises(ValidationError):
            settings.sources["a"].pool.max = 1  # type: ignore[misc]
        with pytest.raises(TypeError):
            settings.sources["b"] = settings.sources["a"]  # type: ignore[index]

    def test_places_are_frozen(self, desk: Desk) -> None:
        with pytest.raises(TypeError):
            desk.load("").places["a",] = Place(Path("a"), 1)  # type: ignore[index]


class TestOverrides:
    """Settings given on the command line."""

    def test_they_win(self, desk: Desk) -> None:
        assert desk.load("server: {port: 1, host: localhost}", server={"port": 2}).settings.server.port == 2

    def test_they_work_without_the_section(self, desk: Desk) -> None:
        assert desk.load("", server={"port": 2}).settings.server.port == 2

    def test_they_are_validated(self, desk: Desk) -> None:
        assert desk.problems("server:\n  port: 1", server={"port": 70000}) == [
            "1: server.port: expected at most 65535, got the number 70000"
        ]
