"""A reader's test: every command that the documentation shows is run here, or says why not.

A new command is run. Where that fails, it needs what it names (a file, a place: see `Desk`), or a line in
`tests/docs/commands.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from gateway.cli.main import build_parser
from gateway.demo.sample import make_shop
from tests.docs.commands import ELSEWHERE, REASONS, ROOT, Command, commands, reason
from tests.k8s.tools import kubectl
from tests.servers.local import free_port
from tests.servers.postgresql import PostgresqlServer
from tests.servers.programs import programs

EVERY: Final = commands()
HERE: Final = [each for each in EVERY if not reason(each)]
README: Final = [each for each in HERE if each.page == "README.md"]
RUN: Final = [(page, list(group)) for page, group in groupby(HERE, lambda each: each.page) if page != "README.md"]
PLACES: Final = ("/etc/gateway", "/run/secrets", "/var/log/gateway")
"""Folders of the pages that lie below the reader's own here."""
CONFIGURATION: Final = """\
server: {{port: {port}}}
admin: {{port: 0}}
auth: {{mode: none}}
sources:
  orders: {{engine: sqlite, path: {shop}}}
tools:
  customer_by_id:
    description: One customer.
    source: orders
    parameters: {{id: {{type: integer}}}}
    statement: select name from customers where id = :id
"""
_OURS: Final = re.compile(
    r"(?:^|-- |\s|/)gateway ((?:check|serve|doctor|call|tools|schema|audit|stdio|demo)\b[^|>&#]*)", re.MULTILINE
)
# A service goes on until it is told to stop: here, once it serves.
UNTIL_SERVING: Final = """\
until_serving() {
  "$@" 2> serving.log & pid=$!
  until grep -qs '"event":"serving"' serving.log; do
    kill -0 $pid 2> /dev/null || { cat serving.log; return 1; }
    sleep 0.05
  done
  kill $pid; wait $pid; rm serving.log
}
"""


class Desk:
    """A reader's machine: a folder, the commands on PATH, and the files that pages speak of.

    Args:
        home: the folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        programs = home / "bin"
        programs.mkdir()
        (programs / "kubectl").symlink_to(kubectl())
        self.path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
        (home / ".venv").symlink_to(sys.prefix)
        (home / "k8s").symlink_to(ROOT / "k8s")
        for place in PLACES:
            (home / place.lstrip("/")).mkdir(parents=True)
        make_shop(home / "shop.sqlite")
        text = CONFIGURATION.format(port=free_port(), shop=home / "shop.sqlite")
        for file in ("gateway.yaml", "etc/gateway/gateway.yaml"):
            (home / file).write_text(text)

    def here(self, text: str) -> str:
        """A command with its places moved here; `make` works in the repository."""
        for place in PLACES:
            text = text.replace(place, f"{shlex.quote(str(self.home))}{place}")
        text = re.sub(r"^make ", f"make -C {shlex.quote(str(ROOT))} ", text)
        return re.sub(r"^((?:\w+=\S+ )*)(\S*gateway serve\b)", r"\1until_serving \2", text, flags=re.MULTILINE)

    def run(self, block: list[Command], answers: str = "") -> None:
        """Run the commands of a block in one shell; each must end well and print what the page shows."""
        lines = [UNTIL_SERVING, "set -e"]
        for number, command in enumerate(block):
            lines += ["{", self.here(command.text), f"}} > {number}.out 2> {number}.err"]
        script = self.home / "block.sh"
        script.write_text("\n".join(lines) + "\n")
        # A terminal, since some programs ask for passwords there; make's own variables are none of the reader's.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        environment |= {"PATH": self.path, "HOME": str(self.home), "ARGS": "--once --port 0"}
        result = subprocess.run(
            ["script", "--quiet", "--return", "--command", "bash block.sh", "/dev/null"],
            cwd=self.home,
            env=environment,
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        for number, command in enumerate(block):
            out, err = ((self.home / f"{number}.{kind}") for kind in ("out", "err"))
            said = err.read_text() if err.exists() else "it was not reached"
            if command.shown:
                assert out.read_text().rstrip("\n") == command.shown, f"{command}: {said}"
            assert result.returncode == 0 or number + 1 < len(block), f"{command}: {said}\n{result.stdout}"


def test_every_command_is_run_or_says_why_not() -> None:
    assert len(EVERY) > 60
    for pattern, _ in REASONS:
        assert any(re.match(pattern, each.text) for each in EVERY), f"no command begins with {pattern} any more"
    for page, pattern, test in ELSEWHERE:
        assert any(each.page == page and re.match(pattern, each.text) for each in EVERY), f"{page}: {pattern}"
        file, _, name = test.partition("::")
        assert re.search(rf"def {name}", (ROOT / file).read_text()), test


@pytest.mark.parametrize(
    "command", [each for each in EVERY if re.search(r"(^|-- |\s)gateway [a-z]", each.text)], ids=str
)
def test_flags_of_the_gateway_are_its_own(command: Command) -> None:
    """Wherever it runs, also in a pod."""
    for line in command.text.replace("\\\n", " ").splitlines():
        found = re.search(
            r"(?:^|-- |\s|/)gateway ((?:check|serve|doctor|call|tools|schema|audit|stdio|demo)\b[^|>&#]*)", line
        )
        if found is not None and "--help" not in found[1]:
            words = shlex.split(found[1])
            build_parser(words[:1]).parse_args(words)


@pytest.mark.parametrize(("page", "every"), RUN, ids=[page for page, _ in RUN])
def test_commands_of_a_page_do_what_it_says(page: str, every: list[Command], tmp_path: Path) -> None:
    desk, answers = Desk(tmp_path), ""
    if page == "docs/how-to/oracle.md":
        answers = _lay_out_wallet(desk)
        every = [Command(each.page, each.block, each.text.replace("chown gateway", "chown nobody")) for each in every]
    for _, block in groupby(every, lambda each: each.block):
        desk.run(list(block), answers)


def _lay_out_wallet(desk: Desk) -> str:
    """The wallet of Oracle's own tools, and what is typed when its passwords are asked for."""
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=gateway_ro -keyout key.pem -out certificate.pem"
    export = "pkcs12 -export -in certificate.pem -inkey key.pem -out ewallet.p12 -passout pass:wallet-password"
    for words in (request, export):
        subprocess.run(["openssl", *words.split()], cwd=desk.home, check=True, capture_output=True)
    return "wallet-password\n" + "another-password\n" * 2


def test_the_readme(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    """A database, an account and a secret as it says; then its commands."""
    desk = Desk(tmp_path)
    page = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(# gateway\.yaml.*?)```", page, re.DOTALL)
    place = f"host: {postgresql.host}\n    port: {postgresql.port}\n    tls: {{mode: disable}}"
    text = block.replace("host: db.internal", place).replace("database: shop", f"database: {postgresql.database}")
    more = f"server: {{port: {free_port()}}}\nadmin: {{port: 0}}\n"
    (desk.home / "gateway.yaml").write_text(desk.here(text) + more)
    (desk.home / "run/secrets/shop-password").write_text("a password")
    asyncio.run(_make_shop(postgresql))
    for _, commands_of_block in groupby(README, lambda each: each.block):
        desk.run(list(commands_of_block))


async def _make_shop(server: PostgresqlServer) -> None:
    admin = await server.admin()
    try:
        await admin.execute("drop table if exists customers; drop role if exists gateway_ro")
        await admin.execute("create table customers (id int primary key, name text, email text, balance numeric)")
        await admin.execute(
            "create role gateway_ro login password 'a password'; grant select on customers to gateway_ro"
        )
    finally:
        await admin.close()


@pytest.mark.usefixtures("firewall")
def test_the_firewall_takes_the_rule(tmp_path: Path) -> None:
    (rule,) = (each for each in EVERY if each.text.startswith("nft "))
    around = ("nft add table inet filter", "nft add chain inet filter forward", rule.text, "nft list ruleset")
    command = ["unshare", "--net", "bash", "-ec", "\n".join(around)]
    path = f"{programs('network')['nft'].parent}:{os.environ['PATH']}"
    result = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True)
    assert "10.244.0.0/16" in result.stdout
    assert "dport 5432 accept" in result.stdout
