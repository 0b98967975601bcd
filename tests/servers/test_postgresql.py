"""The tests' own PostgreSQL does what fault tests ask of it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import tree
from tests.servers.postgresql import PostgresqlServer


async def test_it_stops_and_comes_back_on_the_same_port_with_its_data(own_postgresql: PostgresqlServer) -> None:
    server, port = own_postgresql, own_postgresql.port
    admin = await server.admin()
    await admin.execute("create table kept (id int); insert into kept values (1)")
    await admin.close()
    server.crash()
    with pytest.raises(ConnectionRefusedError):
        await server.admin()
    server.start()
    server.stop("fast")
    server.start()
    assert server.port == port
    again = await server.admin()
    assert await again.fetchval("select count(*) from kept") == 1
    await again.close()


async def test_a_frozen_server_keeps_connections_open_and_says_nothing(own_postgresql: PostgresqlServer) -> None:
    connection = await own_postgresql.admin()
    own_postgresql.signal_all(signal.SIGSTOP)
    waiting = asyncio.ensure_future(connection.fetchval("select 42"))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    own_postgresql.signal_all(signal.SIGCONT)
    assert await asyncio.wait_for(waiting, 10) == 42
    await connection.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_tests_are_killed(
    own_postgresql: PostgresqlServer, tmp_path: Path, ending: signal.Signals
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import tempfile, sys, pathlib\n"
        "from tests.servers.postgresql import PostgresqlServer\n"
        "server = PostgresqlServer(pathlib.Path(tempfile.mkdtemp(prefix='gateway-killed-')))\n"
        "server.start()\n"
        "print(server.folder, server.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(program)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        folder, pid = owner.stdout.readline().split()
        members = tree.descendants(int(pid))
        assert len(members) > 3
        owner.send_signal(ending)
    until = time.monotonic() + 20
    while time.monotonic() < until and (tree.living(members) or Path(folder).exists()):
        time.sleep(0.02)
    assert not tree.living(members)
    assert not Path(folder).exists()
