"""An nginx of the tests' own, with the configuration that a page of the documentation shows."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.servers.local import HOST, Guardian, as_user, free_port, own, until_listening
from tests.servers.programs import programs

_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_AROUND: Final = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log warn;
events {{ worker_connections 1024; }}
http {{
{temporary}
    log_format short '$status $upstream_addr $connection_requests';
    access_log {folder}/access short;
{body}
}}
"""


class NginxServer:
    """A balancer.

    Args:
        folder: where it lives.
        port: where it listens, as the configuration says.
        body: what stands in `http`.
    """

    def __init__(self, folder: Path, port: int, body: str) -> None:
        self.folder = own(folder)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._process: subprocess.Popen[Any] | None = None
        self._guardian: Guardian | None = None
        temporary = "\n".join(f"    {name}_temp_path {folder}/{name};" for name in _TEMPORARY)
        (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, temporary=temporary, body=body))

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        log = self.folder / "log"
        words = [programs("nginx")["nginx"], "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", log]
        # What it says before it has read its configuration goes there, too.
        with (self.folder / "said").open("wb") as said:
            self._process = process = subprocess.Popen(
                list(map(str, words)), cwd=self.folder, stdin=subprocess.DEVNULL, stderr=said, **as_user()
            )
        self._guardian = Guardian(process.pid, self.folder)
        until_listening(process, (HOST, self.port), self.folder / "said", "nginx")

    def served(self) -> list[tuple[int, str, int]]:
        """For each request so far: status, who answered, and how many its connection had brought."""
        lines = (self.folder / "access").read_text().splitlines()
        return [(int(status), who, int(count)) for status, who, count in map(_three, lines)]

    def errors(self) -> str:
        """What it complained of."""
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """Stop at once, workers included."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
        if self._guardian is not None:
            self._guardian.dismiss()


def _three(line: str) -> tuple[str, str, str]:
    status, rest = line.split(" ", 1)
    who, count = rest.rsplit(" ", 1)
    return status, who, count


@contextmanager
def running_nginx(body: str) -> Iterator[NginxServer]:
    """A started balancer; `listen PORT` of its configuration becomes a free port."""
    with tempfile.TemporaryDirectory(prefix="gateway-nginx-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        server = NginxServer(Path(folder), port, body.replace("listen PORT", f"listen {HOST}:{port}"))
        server.start()
        try:
            yield server
        finally:
            server.stop()
