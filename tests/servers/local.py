"""What private local servers share: a free port, an ordinary user, a folder that this user may enter."""

from __future__ import annotations

import os
import pwd
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.servers import tree

HOST = "127.0.0.1"
_PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral range, so that no outgoing connection takes the port of a server that restarts."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    chance = random.SystemRandom()
    while True:
        port = chance.choice(_PORTS)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port


class Guardian:
    """Ends a server and removes its folders when the tests' process vanishes, however that happens."""

    def __init__(self, pid: int, *folders: Path) -> None:
        command = [sys.executable, "-S", tree.__file__, str(pid), *map(str, folders)]
        self.pid = pid
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def dismiss(self) -> None:
        """The server was ended on purpose."""
        self._process.communicate(b"done")


def own(folder: Path) -> Path:
    """Make a folder that the server's user owns; servers refuse to run as root."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in folder.parents:
            # pytest closes its folders to others; the server must be able to walk through them.
            if len(parent.parts) > 2 and parent.stat().st_uid == 0 and parent.stat().st_mode & 0o055 != 0o055:
                parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def as_user() -> dict[str, Any]:
    """Arguments for `subprocess` that give up root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def run(command: list[object], folder: Path) -> None:
    """Run one program of a server to its end, as an ordinary user."""
    words = [str(word) for word in command]
    # A file, not a pipe: a server that a program leaves behind would hold a pipe open.
    with (folder / "output").open("w+b") as output:
        result = subprocess.run(
            words,
            cwd=folder,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=90,
            **as_user(),
        )
        output.seek(0)
        assert result.returncode == 0, f"{words}: {output.read().decode(errors='replace')[-4000:]}"


def until_listening(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, name: str) -> None:
    """Wait until a server that was just started takes connections; at most 10 s, and not if it ended."""
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, f"{name} takes no connections"
            time.sleep(0.01)
        else:
            return


def is_ready(url: str) -> bool:
    """Whether a GET is answered with 200 by now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()  # it holds the connection, and Python 3.14 minds
    except OSError:
        pass
    return False
