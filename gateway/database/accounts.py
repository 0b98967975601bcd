"""The database accounts of one source: whose call runs as whom, and a pool for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.config.logins import ConditionSettings, CredentialSettings
from gateway.config.sources import AnySource
from gateway.context import Principal
from gateway.database.budget import Budget
from gateway.database.engine import Engine
from gateway.database.failures import failure
from gateway.database.identity import texts_at
from gateway.database.pool import Pool
from gateway.errors import Code, ToolError

log = logging.getLogger("gateway.database")

_NOBODY: Final = (
    "This data source has no database account for this caller. Nothing was run;"
    " call again with a token that one is mapped to, or ask the operator of the gateway."
)


def account_settings(source: AnySource, account: CredentialSettings) -> AnySource:
    """The source's settings as one of its accounts logs in; it keeps no connection open."""
    tokens = dict.fromkeys(("token", "oci_token", "token_folder"))
    login = {"user": account.user, "password": account.password, "credentials": (), **tokens}
    fitting = {key: value for key, value in login.items() if key in type(source).model_fields}
    return source.model_copy(update=fitting | {"pool": source.pool.model_copy(update={"min": 0})})


def fits(when: ConditionSettings, principal: Principal) -> bool:
    """Whether a verified token says what a condition asks for."""
    if when.scope is not None:
        return principal.grants(frozenset({when.scope}))
    return when.claim is not None and when.equals in texts_at(principal.claims, when.claim)


class Accounts:
    """The accounts of one source; each gets its pool when it is first used.

    Args:
        name: the source's name.
        settings: the source.
        build: makes the engine for an account.
        budget: what all pools of the source share.
    """

    def __init__(
        self, name: str, settings: AnySource, build: Callable[[AnySource, str], Engine], budget: Budget
    ) -> None:
        self._name = name
        self._settings = settings
        self._build = build
        self._budget = budget
        self._pools: dict[str, tuple[Pool, Engine]] = {}
        self._is_closed = False

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of the accounts that were used."""
        return tuple(pool for pool, _ in self._pools.values())

    def choose(self, principal: Principal) -> tuple[Pool, Engine]:
        """The pool of the first account that fits the caller, and its engine.

        Raises:
            ToolError: ACCESS_DENIED, none does.
        """
        for account in self._settings.credentials:
            if fits(account.when, principal):
                return self._pools.get(account.user) or self._open(account)
        raise ToolError(Code.ACCESS_DENIED, _NOBODY, detail=f"no account of {self._name} is mapped to the caller")

    async def close(self, grace: float) -> None:
        """Open no pool more, and close every one, all at once."""
        self._is_closed = True
        await asyncio.gather(*(pool.close(grace) for pool in self.pools))

    def _open(self, account: CredentialSettings) -> tuple[Pool, Engine]:
        if self._is_closed:
            raise failure(Code.SOURCE_UNAVAILABLE, "the accounts are closed")
        settings = account_settings(self._settings, account)
        engine = self._build(settings, self._name)
        where, extra = f"source {self._name}, account {account.user}", {"source": self._name}
        pool = Pool(
            engine,
            settings.pool,
            settings.connect_timeout,
            on_up=lambda: log.info("%s is up", where, extra=extra),
            on_down=lambda error: log.warning("%s is down: %s: %s", where, error.code, error.detail, extra=extra),
            on_breaker=lambda state: log.debug("%s: breaker %s", where, state, extra=extra),
            budget=self._budget,
        )
        self._pools[account.user] = (pool, engine)
        pool.start()
        return pool, engine


def account_name(source: AnySource, principal: Principal) -> str:
    """The database account that a caller's calls run as; "" where there is none."""
    for account in source.credentials:
        if fits(account.when, principal):
            return account.user
    return "" if source.credentials else str(getattr(source, "user", ""))
