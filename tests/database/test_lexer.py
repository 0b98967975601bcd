"""SQL is cut into tokens as each database does it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database.lexer import Kind, Unclosed, tokenize

DIALECTS = ("postgres", "mysql", "oracle", "sqlite")


def texts(sql: str, dialect: str) -> list[str]:
    return [token.text for token in tokenize(sql, dialect)]


def kinds(sql: str, dialect: str) -> list[str]:
    return [token.kind.value for token in tokenize(sql, dialect)]


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        *((dialect, sql) for dialect in DIALECTS for sql in ("'it''s'", "''", "'a\n:id'")),
        *(("postgres", sql) for sql in ("$$it's$$", "$a1$ $$ :id $a1$", "$é$x$é$", "'\\'")),
        *(("mysql", sql) for sql in (r"'it\'s'", '"a\\"b"', '"it\'s"', r"'\\'")),
        *(("oracle", sql) for sql in ("q'[it's]'", "nQ'{'}'", "q'(()'", "q'<'>'", "q'!it's!'", "q'a'a'", "'\\'")),
    ],
)
def test_a_string_is_one_token(dialect: str, sql: str) -> None:
    (token,) = tokenize(f" {sql} ", dialect)
    assert (token.kind, token.text, token.start, token.end) == (Kind.STRING, sql, 1, len(sql))


@pytest.mark.parametrize("sql", [r"E'it\'s'", r"e'\\'", "E'it''s'"])
def test_a_backslash_escapes_where_postgresql_is_told_so(sql: str) -> None:
    assert kinds(sql, "postgres") == ["escaped"]


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        *((dialect, '"a""b"') for dialect in DIALECTS if dialect != "mysql"),
        *((dialect, "`a``b`") for dialect in ("mysql", "sqlite")),
        ("sqlite", "[a b]"),
    ],
)
def test_a_name_in_quotes_is_one_token(dialect: str, sql: str) -> None:
    assert (kinds(sql, dialect), texts(sql, dialect)) == (["name"], [sql])


@pytest.mark.parametrize(
    ("dialect", "sql", "words"),
    [
        *((dialect, "a é_1 日本 a😀", ["a", "é_1", "日本", "a😀"]) for dialect in DIALECTS),
        *((dialect, "a$b", ["a$b"]) for dialect in DIALECTS),
        ("postgres", "a$$b$$", ["a$$b$$"]),
        ("oracle", "v$session sys#x t@link", ["v$session", "sys#x", "t@link"]),
        ("mysql", "1into 2a 0xfg", ["1into", "2a", "0xfg"]),
        # No database must take this for a space; a word that stands alone is judged, so none is missed.
        *((dialect, "a\u00a0into\u3000b", ["a", "into", "b"]) for dialect in DIALECTS),
    ],
)
def test_words(dialect: str, sql: str, words: list[str]) -> None:
    assert [token.text for token in tokenize(sql, dialect) if token.kind is Kind.WORD] == words


@pytest.mark.parametrize("number", ["1", "1.", "1.5", "1e5", "1.5e-3", "0x1F", "1.e5"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_numbers(dialect: str, number: str) -> None:
    assert (kinds(number, dialect), texts(number, dialect)) == (["number"], [number])


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        *((dialect, sql) for dialect in DIALECTS for sql in ("1.into", "1.5into", "1e5into")),
        *(("postgres", "1into"), ("sqlite", "1into"), ("oracle", "1into"), ("oracle", "1finto"), ("oracle", "1.dinto")),
    ],
)
def test_a_word_behind_a_number_is_a_word(dialect: str, sql: str) -> None:
    assert tokenize(sql, dialect)[-1][:2] == (Kind.WORD, "into")


@pytest.mark.parametrize(
    ("dialect", "comment"),
    [
        *((dialect, comment) for dialect in DIALECTS for comment in ("/* ' */", "/**/", "/*/ */", "-- '\n", "--")),
        *(("postgres", "/* /* */ ' */"), ("mysql", "# '\n"), ("mysql", "--\t'\n")),
        *((dialect, "--'\n") for dialect in DIALECTS if dialect != "mysql"),
    ],
)
def test_comments_are_no_tokens(dialect: str, comment: str) -> None:
    assert texts(f"a {comment}", dialect) == ["a"]
    assert texts(f"{comment}\n:b", dialect) == [":", "b"]


def test_two_hyphens_need_a_space_in_mysql() -> None:
    assert texts("a--1", "mysql") == ["a", "-", "-", "1"]


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        *(("postgres", "$1"), ("mysql", "?")),
        *(("sqlite", sql) for sql in ("?", "?1", "@a", "$a")),
    ],
)
def test_native_placeholders(dialect: str, sql: str) -> None:
    assert (kinds(sql, dialect), texts(sql, dialect)) == (["native"], [sql])


@pytest.mark.parametrize(
    ("dialect", "sql", "closer"),
    [
        *((dialect, sql, "'") for dialect in DIALECTS for sql in ("'", "'a", "'a''", "'''")),
        *((dialect, "/* a", "*/") for dialect in DIALECTS),
        *(("postgres", "E'a\\'", "'"), ("postgres", "$$a$", "$$"), ("postgres", "$t$ $$", "$t$")),
        *(("postgres", "/* /* */", "*/"), ("mysql", '"a\\"', '"'), ("mysql", "`a", "`")),
        *(("oracle", "q'[a'", "'"), ("oracle", "nq'!a'", "'"), ("oracle", '"a', '"'), ("sqlite", "[a", "]")),
    ],
)
def test_what_has_no_end_is_refused(dialect: str, sql: str, closer: str) -> None:
    with pytest.raises(Unclosed) as caught:
        tokenize(f"a {sql}", dialect)
    assert (caught.value.closer, caught.value.start) == (closer, 2)


@given(st.text(alphabet=list("ab:;'\"$[]{}()#?@-/*\\ \n1.Eeqx`é\u00a0")), st.sampled_from(DIALECTS))
def test_tokens_are_pieces_of_the_text_in_its_order(sql: str, dialect: str) -> None:
    behind = 0
    with suppress(Unclosed):
        for token in tokenize(sql, dialect):
            assert token.start >= behind
            assert sql[token.start : token.end + 1] == token.text != ""
            behind = token.end + 1
