"""The paper's network in small: a pod network and a data zone, two real network namespaces with a firewall between.

In the data zone a firewall (nft) treats each port in its own way, dnsmasq answers for names, and what
arrives at `OPEN` is carried to a Unix socket outside, where a real database listens.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tests.servers.local import Guardian
from tests.servers.names import dnsmasq
from tests.servers.programs import MissingServer, programs

T = TypeVar("T")

POD: Final = "10.244.1.7"
"""The gateway's address, in the pod network."""
DATABASE: Final = "10.0.20.5"
STANDBY: Final = "10.0.20.6"
OPEN, DROPPED, RESET, FILTERED, CLOSED = 5432, 5433, 5434, 5435, 5436
"""Ports of the data zone: let through, dropped, rejected by TCP reset and by ICMP, and let through to nobody."""
_RULES: Final = f"""
table inet zone {{
  chain arriving {{
    type filter hook input priority 0;
    ip saddr 10.0.10.0/24 accept comment "the nodes, and not the pods"
    tcp dport {DROPPED} drop
    tcp dport {RESET} reject with tcp reset
    tcp dport {FILTERED} reject with icmpx admin-prohibited
    ip daddr {STANDBY} tcp dport {OPEN} drop
    ip daddr {STANDBY} udp dport 53 drop
  }}
}}
"""
_CARRIER: Final = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
async def carry(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[3])
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
async def main():
    server = await asyncio.start_server(carry, sys.argv[1], int(sys.argv[2]))
    print("up", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass
class Zones:
    """Two namespaces, made and in order."""

    pod: str
    data: str
    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a program in the pod."""
        return subprocess.run(_in(self.pod, *words), capture_output=True, text=True, check=False, timeout=60)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the pod's network, though not with its DNS server: setns(2) moves one thread only."""
        libc = ctypes.CDLL(None, use_errno=True)

        def work() -> T:
            with Path(f"/run/netns/{self.pod}").open("rb") as namespace:
                if libc.setns(namespace.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            return function()

        with ThreadPoolExecutor(1) as threads:
            return threads.submit(work).result(60)

    def nft(self, *commands: str) -> None:
        """Change the data zone's firewall."""
        _ip(*_in(self.data, programs("network")["nft"], "-f", "-"), text="\n".join(commands))

    def carry(self, socket: Path) -> None:
        """Let what arrives at the open port reach a Unix socket."""
        words = _in(self.data, sys.executable, "-S", "-c", _CARRIER, "0.0.0.0", OPEN, socket)
        process = self._stack.enter_context(_process(words))
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

    def answer_names(self) -> None:
        """Answer for names below `zone.test`; what is not known there does not exist."""
        known = {"database": (DATABASE,), "both": (DATABASE, STANDBY), "stale": (STANDBY,)}
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{ip} {name}.zone.test\n" for name, ips in known.items() for ip in ips))
        words = [*dnsmasq("zone.test", hosts), "--user=root", "--no-daemon"]
        self._stack.enter_context(_process(_in(self.data, *words)))
        until = time.monotonic() + 10
        while self.run("getent", "ahostsv4", "database.zone.test").returncode:
            assert time.monotonic() < until, "dnsmasq does not answer"

    def resolve_by(self, address: str) -> None:
        """Which DNS server the pod asks."""
        # In place: programs in the namespace have this very file mounted.
        Path(f"/etc/netns/{self.pod}/resolv.conf").write_text(f"nameserver {address}\noptions timeout:1 attempts:1\n")


def _in(namespace: str, *words: object) -> list[str]:
    return list(map(str, (programs("network")["ip"], "netns", "exec", namespace, *words)))


@contextmanager
def _process(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    guardian = Guardian(process.pid)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)
        guardian.dismiss()


def _ip(*words: str, text: str = "") -> None:
    result = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=30)
    if result.returncode:
        raise MissingServer(
            f"The tests of gateway doctor need network namespaces, which take root and CAP_SYS_ADMIN: {words} said "
            f"{result.stderr.strip()}\nLeave them out with GATEWAY_TEST_SKIP=network"
        )


@contextmanager
def running_zones(folder: Path) -> Iterator[Zones]:
    """Both namespaces, joined by a virtual cable.

    Raises:
        MissingServer: namespaces cannot be made here.
    """
    mark = f"{os.getpid():x}{secrets.token_hex(2)}"
    zones = Zones(f"gw-pod-{mark}", f"gw-data-{mark}", folder)
    ip, pod, data = str(programs("network")["ip"]), zones.pod, zones.data
    own = Path(f"/etc/netns/{pod}")
    with zones._stack as stack:
        for name in (pod, data):
            _ip(ip, "netns", "add", name)
            stack.callback(_ip, ip, "netns", "del", name)
            _ip(ip, "-n", name, "link", "set", "lo", "up")
        own.mkdir(parents=True)
        stack.callback(own.rmdir)
        stack.callback((own / "resolv.conf").unlink)
        zones.resolve_by(DATABASE)
        _ip(ip, "link", "add", "eth0", "netns", pod, "type", "veth", "peer", "name", "eth0", "netns", data)
        for name, addresses, network in (
            (pod, (f"{POD}/16",), "10.0.20.0/24"),
            (data, (f"{DATABASE}/24", f"{STANDBY}/24"), "10.244.0.0/16"),
        ):
            for address in addresses:
                _ip(ip, "-n", name, "address", "add", address, "dev", "eth0")
            _ip(ip, "-n", name, "link", "set", "eth0", "up")
            _ip(ip, "-n", name, "route", "add", network, "dev", "eth0")
        zones.nft(_RULES)
        zones.answer_names()
        yield zones
