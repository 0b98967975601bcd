"""Contradictions in the accounts of a source."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.logins import ConditionSettings, CredentialSettings
from gateway.config.problems import Finding, KeyPath
from gateway.config.sources import MysqlSettings, OracleSettings, PostgresqlSettings, SourceSettings


def credentials(path: KeyPath, source: SourceSettings) -> Iterator[Finding]:
    """What is wrong with a source's `credentials`."""
    inside = (*path, "credentials")
    if not isinstance(source, PostgresqlSettings | MysqlSettings | OracleSettings):
        yield Finding(inside, "SQLite has no accounts; use scopes of tools, or another engine")
        return
    first: dict[str, tuple[int, CredentialSettings]] = {}
    for index, each in enumerate(source.credentials):
        here = (*inside, index)
        if trouble := _trouble(each.when):
            yield Finding((*here, "when"), trouble)
        if each.user == source.user:
            message = "expected another account than the source's own, which serves no caller"
            yield Finding((*here, "user"), message, ((*path, "user"),))
        number, same = first.setdefault(each.user, (index, each))
        if same.password != each.password:
            message = f"expected the same as credentials.{number}.password, since it is the same user's"
            yield Finding((*here, "password"), message, ((*here, "user"), (*inside, number)))


def _trouble(when: ConditionSettings) -> str:
    is_claim = when.claim is not None and when.equals is not None
    is_half = (when.claim is None) != (when.equals is None)
    if is_half or is_claim == (when.scope is not None):
        return "expected either scope, or claim and equals"
    return ""
