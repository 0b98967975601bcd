"""Passwords that rotate in their files, and tokens that serve as passwords, against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway.config.secrets import FileSecret
from gateway.config.sources import PostgresqlSettings
from gateway.database.sources import Source
from gateway.demo.identity import IdentityProvider
from gateway.errors import ToolError
from tests.database.support import reached, run, started, statement, until
from tests.servers.postgresql import PostgresqlServer

ROLE = "rotating"


async def give_password(admin: Any, word: str) -> None:
    """Set the role's password and end its sessions, as an operator who rotates would."""
    await admin.execute(f"alter role {ROLE} password '{word}'")
    await end_sessions(admin)


async def end_sessions(admin: Any) -> None:
    await admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'")


@asynccontextmanager
async def a_role(server: PostgresqlServer) -> AsyncIterator[Any]:
    admin = await server.admin()
    await admin.execute(f"drop role if exists {ROLE}; create role {ROLE} login")
    try:
        yield admin
    finally:
        await admin.close()


async def answers(source: Source) -> bool:
    try:
        return bool((await run(source, statement(source.engine, "select 1 as one"))).rows[0][0] == 1)
    except ToolError:
        return False


async def until_it_answers(source: Source) -> None:
    async with asyncio.timeout(15):
        while not await answers(source):  # noqa: ASYNC110 - a condition outside this process has no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_file_first", [True, False])
async def test_a_rotated_password_heals_without_a_restart(
    own_postgresql: PostgresqlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_file_first: bool
) -> None:
    file = tmp_path / "word"
    file.write_text("password-one\n")
    async with a_role(own_postgresql) as admin:
        await give_password(admin, "password-one")
        settings = own_postgresql.settings(user=ROLE, pool={"min": 2, "max": 3})
        settings = settings.model_copy(update={"password": FileSecret(file, "password-one")})
        with caplog.at_level(logging.DEBUG):
            async with reached(settings, name="rotating") as source:
                for word in ("password-two", "password-three"):
                    if is_file_first:
                        file.write_text(word)
                        await give_password(admin, word)
                    else:
                        await give_password(admin, word)
                        async with asyncio.timeout(10):
                            while not source.trouble.startswith("login_failed"):
                                await end_sessions(admin)  # also one that was logging in meanwhile
                        file.write_text(word)
                    await until_it_answers(source)
                    await until(lambda: source.stats.idle >= 2)
        assert "password-" not in caplog.text


class TokenDesk:
    """A token endpoint before a real one, which tells the database every token that it issues."""

    def __init__(self, provider: IdentityProvider, admin: Any) -> None:
        self.provider, self.admin = provider, admin
        self.tokens: list[str] = []
        self.is_up = True

    async def issue(self, request: web.Request) -> web.Response:
        if not self.is_up:
            return web.Response(status=503)
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
        body = await request.read()
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.provider.token_url, data=body, headers=headers) as reply,
        ):
            answer = await reply.json()
        assert reply.status == 200, answer
        self.tokens.append(answer["access_token"])
        await self.admin.execute(f"alter role {ROLE} password '{answer['access_token']}'")
        return web.json_response(answer)


@asynccontextmanager
async def a_token_desk(admin: Any) -> AsyncIterator[tuple[TokenDesk, str]]:
    clients = {"gateway": ("gateway-secret", ("database",))}
    async with IdentityProvider(clients=clients, audience="https://database.test") as provider:
        desk = TokenDesk(provider, admin)
        application = web.Application()
        application.router.add_post("/token", desk.issue)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield desk, f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        finally:
            await runner.cleanup()


def with_token(server: PostgresqlServer, url: str, secret: str = "gateway-secret") -> PostgresqlSettings:
    return server.settings(
        user=ROLE,
        password=None,
        token={"url": url, "client_id": "gateway", "client_secret": SecretStr(secret), "scope": "database"},
        pool={"min": 3, "max": 3},
    )


async def test_a_token_is_the_password_and_a_refused_one_is_replaced(
    own_postgresql: PostgresqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "gateway"):
        async with (
            a_role(own_postgresql) as admin,
            a_token_desk(admin) as (desk, url),
            reached(with_token(own_postgresql, url), name="token") as source,
        ):
            await until(lambda: source.stats.idle == 3)
            assert len(desk.tokens) == 1, "one fetch for all connections"
            await give_password(admin, "revoked")
            await until_it_answers(source)
            assert len(desk.tokens) == 2
    assert not any(token in caplog.text for token in desk.tokens)


async def test_without_a_token_the_operator_reads_why(own_postgresql: PostgresqlServer) -> None:
    async with a_role(own_postgresql) as admin, a_token_desk(admin) as (desk, url):
        desk.is_up = False
        async with started(with_token(own_postgresql, url), name="token") as source:
            await until(lambda: "gave no token: HTTP 503" in source.trouble)
            assert source.trouble.startswith("source_unavailable")
            desk.is_up = True
            await until_it_answers(source)
