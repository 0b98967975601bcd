"""Placeholders are found where the database would see them, and nothing else is touched."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database.engine import Connection, Statement
from gateway.errors import ToolError
from gateway.tools.statement import render, scan

NAMES = ("id", "limit", "order", "date", "select", "by", "a1", "_x", "e", "n", "q", "x", "b", "u")
DIALECTS = ("postgres", "sqlite", "mysql", "oracle")


@dataclass
class Style:
    """An engine reduced to its dialect and its placeholders."""

    dialect: str
    form: str

    def placeholder(self, position: int, name: str) -> str:
        return self.form.format(position=position, name=name)

    async def connect(self) -> Connection:
        raise NotImplementedError

    def translate(self, error: BaseException) -> ToolError:
        raise NotImplementedError


STYLES = {
    "postgres": Style("postgres", "${position}"),
    "sqlite": Style("sqlite", "?{position}"),
    "mysql": Style("mysql", "%s"),
    "oracle": Style("oracle", ":{name}"),
}


def rendered(sql: str, dialect: str = "postgres", names: tuple[str, ...] = NAMES) -> Statement:
    found = scan(sql, dialect, names)
    assert found.mistakes == ()
    return render("tool", found, STYLES[dialect], dict.fromkeys(names, "integer"), writes=False)


def names_in(sql: str, dialect: str = "postgres") -> list[str]:
    found = scan(sql, dialect, NAMES)
    assert found.mistakes == ()
    return [item.name for item in found.placeholders]


def mistakes(sql: str, dialect: str = "postgres") -> tuple[str, ...]:
    return scan(sql, dialect, NAMES).mistakes


# Pieces of SQL that contain colons but no placeholder, as each database reads them.
_BODY = st.lists(st.sampled_from([":id", " ", "a", ";", "--", "?", "$1", ":n", "é😀", "\n", "[", "{", "#"])).map(
    "".join
)


def _quoted(quote: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from([":id", "a", quote * 2, " ", "--", "/*", "*/", ";", "?", "$$"])).map(
        lambda parts: f"{quote}{''.join(parts)}{quote}"
    )


def _escaped(prefix: str, quote: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from([":id", "a", quote * 2, "\\\\", f"\\{quote}", "\\n", "\\:id", " ", "--"])).map(
        lambda parts: f"{prefix}{quote}{''.join(parts)}{quote}"
    )


_BLOCK = st.lists(st.sampled_from([" :id ", " a ", " ' ", ' " ', " -- ", "\n", " $$ ", " ; "])).map(
    lambda parts: f"/*{''.join(parts)}*/"
)
_LINE = st.lists(st.sampled_from([":id", " a ", "'", '"', "/*", "*/", "$$", ";"])).map(
    lambda parts: f"-- {''.join(parts)}\n"
)
_HINT = _BLOCK.map(lambda block: f"/*+{block[2:]}")
_COMMON = [
    _BLOCK,
    _LINE,
    _HINT,
    st.sampled_from(["1", "a.b", "=", "(", ")", "a :: b", "f(x)", "%", "case when", "1.5"]),
]
_DOLLAR = st.sampled_from(["$$", "$tag$", "$a1$"]).flatmap(
    lambda tag: st.lists(st.sampled_from([":id", " a ", "'", "--", "/*", "$x", ";"])).map(
        lambda parts: f"{tag}{''.join(parts)} {tag}"
    )
)
PIECES = {
    "postgres": st.one_of(
        *_COMMON,
        *(_quoted("'"), _quoted('"'), _escaped("E", "'"), _escaped("e", "'"), _DOLLAR),
        _BLOCK.map(lambda inner: f"/* {inner} :id */"),
        st.sampled_from(
            [
                *("x::int", "'{}'::jsonb ? 'a'", "x ?| y", "x ?& y", "x -> 'a' ->> 'b'", "x #> y #>> z", "x @> y"),
                *("U&'d:id'", 'U&"d:id"', "N':id'", "B'01'", "X'1F'", "f(a := 1)", "x @? y", "a::text[1:2]"),
                *("a[1:2]", "|/ 4", "!! 3"),
            ]
        ),
    ),
    "sqlite": st.one_of(
        *_COMMON,
        *(_quoted("'"), _quoted('"'), _quoted("`")),
        _BODY.map(lambda body: f"[{body.replace('[', '')}]"),
        st.sampled_from(["x -> '$.a' ->> 'b'", "X'00'", "x''", "a || b"]),
    ),
    "mysql": st.one_of(
        *(_BLOCK, _LINE, st.sampled_from(["1", "a.b", "=", "x -> '$.a'", "x'1F'", "@v", "@@v", "a := 1", "a--1"])),
        *(_escaped("", "'"), _escaped("", '"'), _quoted("`")),
        _LINE.map(lambda line: f"#{line[2:]}"),
    ),
    "oracle": st.one_of(
        *_COMMON,
        *(_quoted("'"), _quoted('"')),
        st.sampled_from(["q'[it's :id]'", "q'{:id'}'", "nq'(:id)'", "Q'!:id!'", "N':id'", "a := 1"]),
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
def test_exactly_the_placeholders_are_replaced(dialect: str, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.one_of(PIECES[dialect], st.sampled_from(NAMES).map(lambda name: f":{name}"))))
    is_placeholder = [part.startswith(":") and part[1:] in NAMES for part in parts]
    sql = "select " + " ".join(parts)
    expected: list[str] = []
    order: list[str] = []
    for part, is_one in zip(parts, is_placeholder, strict=True):
        if not is_one:
            expected.append(part)
            continue
        if dialect in ("mysql", "oracle") or part[1:] not in order:
            order.append(part[1:])
        expected.append(STYLES[dialect].placeholder(order.index(part[1:]) + 1, part[1:]))
    statement = rendered(sql, dialect)
    assert statement.text == "select " + " ".join(expected)
    assert statement.parameters == tuple(order)


@given(st.text(alphabet=list("abc:;'\"$[]{}()#?@-/*\\ \n1Eeqx")), st.sampled_from(DIALECTS))
def test_any_text_is_answered_and_kept(sql: str, dialect: str) -> None:
    found = scan(sql, dialect, ("a", "b"))
    assert sql.startswith(found.text)
    for item in found.placeholders:
        assert found.text[item.start : item.end] == f":{item.name}"
    statement = render("tool", found, Style(dialect, ":{name}"), {"a": "string", "b": "string"}, writes=False)
    assert statement.text.replace(" ", "") == found.text.replace(" ", "")


@pytest.mark.parametrize("word", ["limit", "date", "order", "select"])
def test_keywords_are_names_like_others(word: str) -> None:
    assert names_in(f"select 1 where x = :{word}") == [word]


def test_words_that_form_a_keyword_together_stay_apart() -> None:
    assert names_in("select x from t limit :order by") == ["order"]


@pytest.mark.parametrize("verb", ["call f(:id)", "show :id", "execute f(:id)", "explain select :id"])
def test_commands_are_not_swallowed_whole(verb: str) -> None:
    assert names_in(verb) == ["id"]


def test_a_cast_binds_to_its_placeholder() -> None:
    assert rendered("select :id::int, :date::text[1:2], a[:n:3], a[:n::int:3]").text == (
        "select $1::int, $2::text[1:2], a[$3:3], a[$3::int:3]"
    )


def test_positions_are_characters_and_not_bytes() -> None:
    assert rendered("select 'é😀', :id").text == "select 'é😀', $1"


def test_a_placeholder_does_not_grow_into_the_word_before_it() -> None:
    statement = rendered("select x from t limit:limit", "postgres")
    assert statement.text == "select x from t limit $1"


def test_numbered_placeholders_reuse_their_number() -> None:
    statement = rendered("select :id, :n, :id")
    assert (statement.text, statement.parameters) == ("select $1, $2, $1", ("id", "n"))


def test_other_placeholders_repeat() -> None:
    statement = rendered("select :id, :n, :id", "mysql")
    assert (statement.text, statement.parameters) == ("select %s, %s, %s", ("id", "n", "id"))
    assert rendered("select :id, :n, :id", "oracle").parameters == ("id", "n", "id")


def test_types_follow_the_order_of_binding() -> None:
    found = scan("select :b, :a, :b", "mysql", ("a", "b"))
    statement = render("tool", found, STYLES["mysql"], {"a": "string", "b": "integer"}, writes=True)
    assert statement.types == ("integer", "string", "integer")
    assert statement.writes


@pytest.mark.parametrize("sql", ["select 1;", "select 1 ; -- done\n", "select 1;;\n/* done */ ;"])
def test_a_final_semicolon_is_left_out(sql: str) -> None:
    assert rendered(sql).text.rstrip() == "select 1"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_second_statement_is_refused(dialect: str) -> None:
    (mistake,) = mistakes("select 1;\n  delete from t", dialect)
    assert mistake == "a second statement begins at line 2, column 3; a tool has one"


@pytest.mark.parametrize("sql", ["", "  ", "-- nothing\n", "/* nothing */", ";"])
def test_an_empty_statement_is_refused(sql: str) -> None:
    assert mistakes(sql) == ("the statement is empty",)


@pytest.mark.parametrize(("sql", "mark"), [("select 'a", "'"), ('select "a', '"'), ("select $$a", "$$")])
def test_what_is_not_closed_is_named(sql: str, mark: str) -> None:
    (mistake,) = mistakes(f"select 1,\n{sql}")
    assert mistake == f"line 2, column 8: a string or quoted name is not closed; {mark} is missing"


def test_a_comment_that_is_not_closed_is_refused() -> None:
    assert "comment that is not closed" in mistakes("select 1 /* :id")[0]


def test_a_nul_character_is_refused() -> None:
    assert mistakes("select 1\0") == ("the statement contains a NUL character",)


@pytest.mark.parametrize(
    ("dialect", "sql", "column"),
    [
        *(("postgres", "select $1", 8), ("sqlite", "select ?", 8), ("sqlite", "select ?1", 8)),
        *(("sqlite", "select @a", 8), ("sqlite", "select $a", 8), ("sqlite", "select :1", 8)),
        *(("mysql", "select ?", 8), ("oracle", "select :1 from dual", 8)),
    ],
)
def test_the_databases_own_placeholders_are_refused(dialect: str, sql: str, column: int) -> None:
    (mistake,) = mistakes(sql, dialect)
    assert mistake.startswith(f"line 1, column {column}: a placeholder of the database's own style")
    assert ":name" in mistake


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        *(("postgres", "select '{}'::jsonb ? 'a'"), ("postgres", "select '$1', a[1:2], json_object('a':1)")),
        *(("mysql", "select @v, @@version"), ("oracle", "select json_object('a':1) from dual")),
        *(("sqlite", "select '?', [?], \"?\" -- ?"), ("mysql", "select '?' # ?\n")),
    ],
)
def test_what_only_looks_like_one_is_allowed(dialect: str, sql: str) -> None:
    assert mistakes(sql, dialect) == ()


def test_an_undeclared_placeholder_names_its_place_and_the_nearest_parameter() -> None:
    assert mistakes("select\n  :limti") == (
        "line 2, column 3: the placeholder :limti has no parameter; did you mean :limit?",
    )


def test_a_slice_with_names_is_refused_unless_a_parameter_is_called_so() -> None:
    (mistake,) = mistakes("select a[y:zzz]")
    assert "put a space after the colon" in mistake
    assert names_in("select a[y: zzz]") == []
    assert names_in("select a[y:n]") == ["n"]


@pytest.mark.parametrize("name", [":café", ":1a", ":a$b"])
def test_names_are_letters_digits_and_underscore(name: str) -> None:
    found = mistakes(f"select {name}", "mysql")
    assert all("letters, digits and _" in mistake for mistake in found)
    assert found


@pytest.mark.parametrize("verb", ["commit", "BEGIN", "set role x", "rollback", "savepoint a", "reset all"])
def test_session_control_is_refused(verb: str) -> None:
    assert "controls the session" in mistakes(verb)[0]


def test_oracle_blocks_may_begin() -> None:
    assert mistakes("begin", "oracle") == ()


def test_comments_nest_in_postgresql_only() -> None:
    assert names_in("/*/* :id */ :n */ select :id") == ["id"]
    assert names_in("/*/* :id */ select :id", "mysql") == ["id"]


def test_a_continued_escape_string_is_refused() -> None:
    """PostgreSQL reads the second line with backslash escapes, the lexer without."""
    sql = "select E'a'\n'b\\\\', ':id'"
    assert any("in one piece" in each for each in mistakes(sql))


@given(st.data())
def test_sqlite_agrees_on_what_is_a_placeholder(data: st.DataObject) -> None:
    """SQLite itself knows `:name`: it must ask for exactly the values that were found."""
    literals = st.one_of(_quoted("'"), _BLOCK.map(lambda c: f"1 {c}"), _LINE.map(lambda c: f"2 {c}"), st.just("x'00'"))
    parts = data.draw(st.lists(st.one_of(literals, st.sampled_from([":id", ":n", ":limit"])), min_size=1, max_size=8))
    sql = "select " + ", ".join(f"({part})" for part in parts)
    statement = rendered(sql, "sqlite")
    named = dict.fromkeys(("id", "n", "limit"), 7)
    db = sqlite3.connect(":memory:")
    try:
        ours = db.execute(statement.text, [7] * len(statement.parameters)).fetchall()
        assert ours == db.execute(sql, named).fetchall()
        with pytest.raises(sqlite3.ProgrammingError):
            db.execute(statement.text, [7] * (len(statement.parameters) + 1))
    finally:
        db.close()
