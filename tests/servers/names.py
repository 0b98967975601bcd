"""A DNS server of the tests' own (dnsmasq), whose answers change while it runs."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP
from typing import Any

from tests.servers.local import HOST, Guardian, as_user, free_port, own, until_listening
from tests.servers.programs import programs


def dnsmasq(zone: str, hosts: Path) -> list[object]:
    """The command of a server that answers for one zone from a hosts file, and knows nothing else."""
    words: list[object] = [programs("network")["dnsmasq"], "--keep-in-foreground", "--no-resolv", "--no-hosts"]
    return [*words, "--conf-file=/dev/null", f"--local=/{zone}/", "--pid-file=", f"--addn-hosts={hosts}"]


class NameServer:
    """Answers for the zone `test`.

    Args:
        folder: where it lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = own(folder)
        self.port = free_port()
        self._hosts = folder / "hosts"
        self._log = folder / "log"
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Start, knowing no name."""
        self._hosts.write_text("")
        words = dnsmasq("test", self._hosts)
        words += ["--user=", "--no-daemon", f"--listen-address={HOST}", "--bind-interfaces", f"--port={self.port}"]
        with self._log.open("wb") as log:
            command = [*map(str, words), "--log-queries"]
            self._process = process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, **as_user())
        until_listening(process, (HOST, self.port), self._log, "dnsmasq")

    def tell(self, name: str, addresses: Iterable[str]) -> None:
        """Answer with these addresses from now on."""
        assert self._process is not None
        whole = self._hosts.with_suffix(".new")
        whole.write_text("".join(f"{address} {name}\n" for address in addresses))
        whole.rename(self._hosts)  # it may be reading
        self._process.send_signal(SIGHUP)

    async def until_told(self, name: str, addresses: Iterable[str]) -> None:
        """Wait until somebody got exactly these addresses."""
        wanted = set(addresses)
        while self._answers(name) != wanted:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)

    def _answers(self, name: str) -> set[str]:
        """The addresses of the latest answer."""
        found: set[str] = set()
        for line in self._log.read_text().splitlines():
            if f"query[A] {name} " in line:
                found = set()
            elif f"{name} is " in line:
                found.add(line.rpartition(" ")[2])
        return found

    def stop(self) -> None:
        """Stop at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)


@contextmanager
def running_names() -> Iterator[NameServer]:
    """A started server."""
    with tempfile.TemporaryDirectory(prefix="gateway-names-", ignore_cleanup_errors=True) as folder:
        server = NameServer(Path(folder))
        server.start()
        assert server._process is not None
        guardian = Guardian(server._process.pid)
        try:
            yield server
        finally:
            server.stop()
            guardian.dismiss()
