"""The tutorial, done as a reader does it: its files written, its commands run, its output compared."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.local import free_port, is_ready

PAGE = (Path(__file__).parents[2] / "docs/tutorial/first-tool.md").read_text()
BIN = Path(sys.executable).parent


def _block(kind: str, containing: str) -> str:
    blocks = re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)
    return next(str(block) for block in blocks if containing in block)


def _commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block with the output that the page shows."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        if "<<'PY'" in part:
            found.append((part.strip("\n"), ""))
        else:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def _run(command: str, folder: Path, environment: dict[str, str]) -> str:
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return result.stdout + result.stderr


def test_every_step_gives_what_the_page_shows(tmp_path: Path, shell: dict[str, str]) -> None:
    for command, _ in _commands(_block("console", "sqlite3.connect")):
        assert _run(command, tmp_path, shell) == ""
    configuration = tmp_path / "books.yaml"
    configuration.write_text(_block("yaml", "books_since"))
    for command, output in _commands(_block("console", "gateway check")):
        assert _run(command, tmp_path, shell) == output
    written = configuration.read_text()
    configuration.write_text(written.replace("select title", "select tilte"))
    assert "no such column: tilte" in _run("gateway check --config books.yaml", tmp_path, shell)
    # The page uses the default ports, which may be taken here.
    port = free_port()
    configuration.write_text(written + f"server: {{port: {port}}}\nadmin: {{port: 0}}\n")
    serve, listed, first, second, _ = _commands(_block("console", "gateway serve"))
    server = subprocess.Popen(
        serve[0].removesuffix(" &").split(), cwd=tmp_path, env=shell, stderr=subprocess.DEVNULL, text=True
    )
    try:
        _until_ready(f"http://127.0.0.1:{port}/healthz/ready")
        url = f" --url http://127.0.0.1:{port}/mcp"
        assert "books_since(year: integer)" in _run(listed[0] + url, tmp_path, shell)
        assert _run(first[0] + url, tmp_path, shell) == first[1]
        assert _run(second[0] + url, tmp_path, shell) == second[1]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + 20
    while not is_ready(url):
        assert time.monotonic() < deadline, "the gateway did not become ready"
        time.sleep(0.05)
