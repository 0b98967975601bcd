"""Reads load, whatever their columns are called; whatever changes, stores or locks is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tools.classify import changes
from gateway.tools.statement import scan
from tests.tools.conftest import Make
from tests.tools.test_catalog import problems_of

EVERYWHERE = [
    "select 1",
    "SELECT * FROM t",
    "(select 1) union (select 2)",
    "((select 1))",
    "values (1), (2)",
    "with a as (select 1 as x) select x from a",
    "with a (x, y) as (select 1, 2), b as (with c as (select 1) select * from c) select * from a, b",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9) select i from n",
    "with recursive as (select 1 as one) select one from recursive",
    "select replace(a, 'x', 'y'), insert(a, 1, 2, 'z') from t",
    "select update_count, updated, delete_at, inserted_by, into_stock from t",
    "select t.update, t.delete, t.into, t.for from t",
    "select 'insert into t', 'for update' from t where a = 'delete from t'",
    "select 1 -- for update\n",
    "select 1 /* into t */ from t",
    "select (select count(*) from t) as n",
    "select a from t where a in (with b as (select 1 as x) select x from b)",
    "select :into, :for update_of, :update from t where a = :for",
    "explain select 1",
    "explain delete from t",
]
POSTGRES = [
    'select "update", "insert", "into", "for" from t',
    "select update, delete, insert, merge, replace from t",
    "select count(*) update from t",
    "select 1 as into",
    "select 1 as for",
    "table t",
    "show server_version",
    "explain (analyze, buffers) select 1",
    "explain (format json) update t set a = 1",
    "explain analyze verbose with a as (select 1) select * from a",
    "explain (select 1)",
    "with a as materialized (select 1) select * from a",
    "with a as not materialized (values (1)) table a",
    "with recursive g(id, up) as (select 1, 2) search depth first by id, up set ord, h as (select 1) select * from g",
    "with recursive g(id, up) as (select 1, 2) search breadth first by id set o cycle id, up set c to 1 default 0"
    " using path, h as (select 2) select * from g, h",
    "with g(id) as (select 1) cycle id set c using path select * from g",
    "select substring(name from 1 for share) from t",
    "select substring(name from 1 for update), overlay(a placing b from 1 for update) from t",
    "select substring(name for (select 3)) from t",
    "select $$into$$, $f$for update$f$",
    "select extract(year from update) from t",
    "select * from t window w as (partition by update)",
]
MYSQL = [
    "select `update`, `into` from t",
    "show tables",
    "describe t",
    "desc t",
    "explain format=json select 1",
    "explain analyze select 1",
    "select substring(a from 1 for 2) from t # for update",
    'select "into", "for update"',
    "select a from t use index for join (i)",
    "table t",
]
SQLITE = [
    "pragma table_info(t)",
    "pragma main.table_info(t)",
    "pragma user_version",
    "pragma main.user_version",
    "explain query plan select 1",
    "explain query plan delete from t",
    "select [into], [for update] from t",
]

REFUSED_EVERYWHERE = [
    ("delete from t", "DELETE"),
    ("insert into t values (1)", "INSERT"),
    ("update t set a = 1", "UPDATE"),
    ("create table t (a int)", "CREATE"),
    ("drop table t", "DROP"),
    ("vacuum", "VACUUM"),
    ("with a as (select 1) delete from t", "DELETE"),
    ("with a as (select 1), b(x) as (select 2) insert into t select * from a", "INSERT"),
    ("with a as (select 1) update t set a = 1", "UPDATE"),
    ("with a select 1", "WITH"),
    ("with", "WITH"),
    ("with a as (select 1)", "its end"),
    ("with a as (select 1", "its end"),
    ("with a as () select 1", "')'"),
    ("explain analyze delete from t", "DELETE"),
    ("(delete from t)", "DELETE"),
    ("1", "'1'"),
]
REFUSED_POSTGRES = [
    ("with a as (insert into t values (1) returning *) select * from a", "INSERT"),
    ("with a as (select 1), b as materialized (update t set a = 1 returning a) select * from b", "UPDATE"),
    ("with a as not materialized (delete from t returning *) select * from a", "DELETE"),
    ("with a as (merge into t using u on true when matched then delete returning *) select * from a", "MERGE"),
    ("with a as (with b as (delete from t returning *) select * from b) select * from a", "DELETE"),
    ('with "a b" (x) as ((delete from t returning *)) select 1', "DELETE"),
    (
        "with recursive g(id) as (select 1) search depth first by id set o, d as (delete from t returning 1) select 1",
        "DELETE",
    ),
    ("with g(id) as (select 1) cycle id set c using p, d as (delete from t returning 1) select 1", "DELETE"),
    ("select * into t from u", "INTO"),
    ("select a into temp t from u", "INTO"),
    ("with a as (select 1) select * into t from a", "INTO"),
    ("select * from t for update", "FOR"),
    ("select * from t for no key update of t nowait", "FOR"),
    ("select * from t for share skip locked", "FOR"),
    ("select * from t for key share", "FOR"),
    ("select * from (select * from t for update) x", "FOR"),
    ("call p()", "CALL"),
    ("do $$ begin end $$", "DO"),
    ("copy t to stdout", "COPY"),
    ("lock table t", "LOCK"),
    ("set work_mem = '1MB'", "SET"),
    ("merge into t using u on true when matched then delete", "MERGE"),
    ("explain (analyze) update t set a = 1", "UPDATE"),
    ("explain (verbose, analyze true) insert into t values (1)", "INSERT"),
    ("explain analyze verbose with a as (delete from t returning 1) select 1", "DELETE"),
    ("explain analyze select 1 into t", "INTO"),
    ("explain analyze execute p", "EXECUTE"),
    ("refresh materialized view v", "REFRESH"),
    ("truncate t", "TRUNCATE"),
    ("listen x", "LISTEN"),
]
REFUSED_MYSQL = [
    ("select 1 into outfile '/tmp/x'", "INTO"),
    ("select a into @v from t", "INTO"),
    ("select 1 --1 into outfile '/tmp/x'", "INTO"),
    ("select * from t lock in share mode", "LOCK IN SHARE MODE"),
    ("select * from t for update", "FOR"),
    ("replace into t values (1)", "REPLACE"),
    ("with a as (select 1) replace into t select 1", "REPLACE"),
    ("handler t open", "HANDLER"),
    ("analyze table t", "ANALYZE"),
    ("explain format=json into @v select 1", "INTO"),
    ("load data infile 'x' into table t", "LOAD"),
]
REFUSED_SQLITE = [
    ("pragma user_version = 3", "user_version"),
    ("pragma journal_mode(wal)", "journal_mode"),
    ("pragma main.journal_mode = wal", "journal_mode"),
    ("attach 'x' as y", "ATTACH"),
    ("replace into t values (1)", "REPLACE"),
    ("reindex", "REINDEX"),
]


def _cases(**by_dialect: list[object]) -> list[object]:
    return [
        pytest.param(dialect, case, id=f"{dialect}-{case}") for dialect, cases in by_dialect.items() for case in cases
    ]


@pytest.mark.parametrize(
    ("dialect", "sql"),
    _cases(postgres=[*EVERYWHERE, *POSTGRES], mysql=[*EVERYWHERE, *MYSQL], sqlite=[*EVERYWHERE, *SQLITE]),
)
def test_reads_load(dialect: str, sql: str) -> None:
    assert changes(sql, dialect) == []


@pytest.mark.parametrize(
    ("dialect", "case"),
    _cases(
        postgres=[*REFUSED_EVERYWHERE, *REFUSED_POSTGRES],
        mysql=[*REFUSED_EVERYWHERE, *REFUSED_MYSQL],
        sqlite=[*REFUSED_EVERYWHERE, *REFUSED_SQLITE],
    ),
)
def test_changes_are_refused(dialect: str, case: tuple[str, str]) -> None:
    sql, word = case
    found = changes(sql, dialect)
    assert found
    assert any(word.lower() in text.partition(";")[0].lower() for text in found), found
    assert all(text.startswith("line 1, column ") and "writes: true" in text for text in found)


# A query grown from random parts: harmless names everywhere, at most one poison in a known place.
_NAMES = st.sampled_from(["a", "t.update", "t.into", '"for"', "replace(a, 'into', 'b')", "(select 1)", "'for update'"])
_SELECT = st.lists(_NAMES, min_size=1, max_size=3).map(lambda names: f"select {', '.join(names)} from t")
_SPACE = st.sampled_from([" ", "\n", " /* into x */ ", " -- for update\n"])


def _around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, _SELECT)
    return st.one_of(
        inner.map(lambda sql: f"with x as ({sql}) select * from x"),
        pair.map(lambda two: f"with y (p) as materialized ({two[1]}), x as ({two[0]}) select * from x"),
        inner.map(lambda sql: f"with x as (select 1), z as (({sql})) table z"),
    )


_POISON = st.sampled_from(
    [
        "delete from t returning 1",
        "INSERT into t values (1) returning 1",
        "update t set a = 1 returning *",
        "select 1 into t",
        "select * from t for update",
        "select * from t FOR NO KEY UPDATE",
    ]
)


_EXPLAIN = st.sampled_from(["", "explain analyze ", "explain (verbose, analyze) "])


@given(_EXPLAIN, st.recursive(_SELECT, _around, max_leaves=4), _SPACE)
def test_whatever_is_built_of_reads_is_a_read(explain: str, sql: str, space: str) -> None:
    assert changes(f"{explain}{sql}".replace(" ", space), "postgres") == []


@given(_EXPLAIN, st.recursive(_POISON, _around, max_leaves=4), _SPACE)
def test_one_change_anywhere_spoils_it(explain: str, sql: str, space: str) -> None:
    assert changes(f"{explain}{sql}".replace(" ", space), "postgres")


def test_a_reading_tool_with_a_change_does_not_load(configure: Make) -> None:
    write: dict[str, object] = {"source": "shop_rw", "statement": "delete from customers"}
    found = problems_of(configure, {"a": write})
    assert found == {
        "tools.a.statement": "line 1, column 1: a tool that reads cannot begin with DELETE; on a source with"
        " access: read-write, say writes: true; else write it as a plain SELECT"
    }


@pytest.mark.parametrize("sql", ["select 1 /*! into outfile 'x' */", "select /* a */ /*M!100100 1*/ 2"])
def test_comments_that_mysql_runs_are_refused(sql: str) -> None:
    assert "write this comment more plainly" in scan(sql, "mysql", ()).mistakes[0]
    assert scan("select 1 --  into\n, 2 /* ! */ --", "mysql", ()).mistakes == ()
