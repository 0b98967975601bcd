"""The steps of the Containerfile, done by hand: what they make serves a request as nobody, on a read-only root."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway import __version__
from gateway.demo.identity import IdentityProvider
from gateway.demo.sample import make_shop
from gateway.net.oauth import ClientCredentials
from tests.k8s.rendered import gateway_container, one
from tests.k8s.tools import ROOT
from tests.servers.local import free_port
from tests.world import AUDIENCE, CLIENTS, CONFIGURATION, envelope, routing

FILE: Final = ROOT / "Containerfile"
_SETUP: Final = "python -m venv /build && /build/bin/python -m pip install --no-cache-dir "
USER: Final = 10001


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions with their arguments, in order."""
    lines = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def stages() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What the first stage does, and what the last one does."""
    every = instructions()
    starts = [index for index, (word, _) in enumerate(every) if word == "FROM"]
    return every[starts[0] : starts[1]], every[starts[1] :]


@dataclass(frozen=True)
class Image:
    """The tree that the last stage takes over, and how it is started."""

    folder: Path
    gateway: Path
    environment: Mapping[str, str]

    def command(self, *arguments: str) -> list[str]:
        """A command as it runs in the container: another user, without rights, and a root that cannot be written."""
        if os.geteuid() != 0:
            return list(arguments)
        drop = f"setpriv --reuid={USER} --regid={USER} --clear-groups --bounding-set=-all --no-new-privs"
        script = f'mount -o remount,bind,ro / && exec {drop} "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd="/", env=dict(self.environment), capture_output=True, text=True, timeout=60
        )


def _python() -> str:
    """The interpreter below this one, or Debian's, whichever the image's user may run."""
    for each in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        ask = [each, "-c", "import sys, venv; print(sys.version_info[:2])"]
        user = {"user": USER, "group": USER} if os.geteuid() == 0 else {}
        try:
            result = subprocess.run(ask, cwd="/", capture_output=True, text=True, check=True, **user)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        if result.stdout.strip() == str(tuple(sys.version_info[:2])):
            return each
    raise AssertionError(f"no Python {sys.version_info[:2]} that user {USER} may run: apt-get install python3")


def _copy(folder: Path) -> None:
    """What the first stage copies, and no more."""
    for word, rest in stages()[0]:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                end = folder / "src" / target / ("" if not target.endswith("/") else Path(source).name)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, end, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    end.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, end)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The first stage, done here: the environment of the tests is its /build, since both hold the whole lock file."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-image-"))
    try:
        folder.chmod(0o755)
        _copy(folder)
        (folder / "build").symlink_to(sys.prefix)  # whose own path may hold a space
        first, last = stages()
        runs = [rest for word, rest in first if word == "RUN"]
        assert runs[0].startswith(_SETUP)
        arguments = {name: value for word, rest in first if word == "ARG" for name, _, value in [rest.partition("=")]}
        for run in runs[1:]:
            script = re.sub(r"(?<!\w)python -m venv", f"{_python()} -m venv", run)
            script = script.replace("/opt/gateway", f"{folder}/opt/gateway").replace("/wheels", f"{folder}/wheels")
            script = script.replace("/build/", f"{folder}/build/")
            environment = (
                os.environ | arguments | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
            )
            result = subprocess.run(
                script, shell=True, cwd=folder / "src", env=environment, capture_output=True, text=True
            )
            assert result.returncode == 0, f"{script}\n{result.stdout}\n{result.stderr}"
        told = dict(each.split("=", 1) for word, rest in last if word == "ENV" for each in rest.split())
        told["PATH"] = told["PATH"].replace("/opt/gateway", f"{folder}/opt/gateway")
        yield Image(folder, folder / "opt/gateway/bin/gateway", told)
    finally:
        shutil.rmtree(folder)


def test_the_last_stage_is_what_it_should_be() -> None:
    first, last = stages()
    settings = {word: rest for word, rest in last if word not in ("ENV", "COPY", "ARG")}
    assert first[0] == ("FROM", "${PYTHON} AS build")
    assert [rest for word, rest in last if word == "COPY"] == ["--from=build /opt/gateway /opt/gateway"]
    assert settings["USER"] == f"{USER}:{USER}"
    assert settings["STOPSIGNAL"] == "SIGTERM"
    assert settings["ENTRYPOINT"] == '["gateway"]'
    assert "org.opencontainers.image.licenses" in settings["LABEL"]
    (base,) = (rest for word, rest in instructions() if word == "ARG" and rest.startswith("PYTHON="))
    assert re.fullmatch(r"PYTHON=docker\.io/library/python:3\.\d+\.\d+-slim-[a-z]+", base), "pinned, and slim"
    pod = one("production", "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"]) == (USER, USER)
    ports = {str(each["containerPort"]) for each in gateway_container("production")["ports"]}
    assert set(settings["EXPOSE"].split()) == ports
    assert f"VERSION={__version__}" in [rest for word, rest in last if word == "ARG"]


def test_nothing_of_development_is_in_it(image: Image) -> None:
    installed = {
        path.name.partition("-")[0].lower() for path in image.folder.glob("opt/gateway/lib/*/site-packages/*.dist-info")
    }
    assert {"aiohttp", "mcp", "asyncpg", "pymysql", "mcp_database_gateway"} <= installed
    assert not installed & {"pip", "setuptools", "pytest", "mypy", "ruff", "hatchling", "hypothesis", "testcontainers"}
    locked = (ROOT / "requirements.lock").read_text()
    for line in (image.folder / "wheels/runtime.txt").read_text().splitlines():
        assert line in locked
    assert not list(image.folder.glob("opt/gateway/lib/*/site-packages/tests"))


def test_it_can_be_built_again(image: Image, tmp_path: Path) -> None:
    (wheel,) = (image.folder / "wheels").glob("*.whl")
    (build,) = (rest for word, rest in stages()[0] if word == "RUN" and "hatchling" in rest)
    for path in (image.folder / "src").rglob("*"):
        os.utime(path, (1, 10**9))
    script = build.replace("/build/", f"{image.folder}/build/").replace("/wheels", str(tmp_path))
    environment = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}
    subprocess.run(script, shell=True, cwd=image.folder / "src", env=environment, check=True, capture_output=True)
    again = tmp_path / wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_nothing_can_be_written(image: Image) -> None:
    wanted = [str(image.folder / "opt/gateway/x"), str(image.gateway), "/etc/gateway-x"]
    script = 'for each in "$@"; do if echo x 2>/dev/null >> "$each"; then echo "wrote $each"; fi; done'
    result = image.run("sh", "-c", script, "sh", *wanted)
    assert result.returncode == 0, result.stderr
    if os.geteuid() == 0:
        assert result.stdout == ""
    assert image.run("gateway", "--version").stdout == f"gateway {__version__}\n"


async def test_it_serves_a_request_as_nobody_on_a_read_only_root(image: Image) -> None:
    folder = image.folder / "etc"
    folder.mkdir()
    make_shop(folder / "shop.sqlite")
    with closing(sqlite3.connect(folder / "shop.sqlite")) as database:
        database.execute("pragma journal_mode = delete")  # a write-ahead log needs a folder that can be written
    ports = free_port(), free_port()
    text = CONFIGURATION.replace("port: 0}\nadmin: {port: 0}", f"port: {ports[0]}}}\nadmin: {{port: {ports[1]}}}")
    assert text != CONFIGURATION
    (folder / "gateway.yaml").write_text(text)
    async with IdentityProvider(clients=CLIENTS, audience=AUDIENCE) as provider, aiohttp.ClientSession() as http:
        variables = {"ISSUER": provider.issuer, "DATABASE": str(folder / "shop.sqlite")}
        command = image.command("gateway", "serve", "--config", str(folder / "gateway.yaml"))
        environment = {**image.environment, **variables}
        process = await asyncio.create_subprocess_exec(*command, cwd="/", env=environment, stderr=subprocess.PIPE)
        try:
            await _ready(http, f"http://127.0.0.1:{ports[1]}", process)
            check = shlex.split(_healthcheck().replace("9464", str(ports[1])))
            assert image.run(*check).returncode == 0
            token = await ClientCredentials(provider.token_url, "reader", CLIENTS["reader"][0]).token()
            body = envelope("tools/call", {"name": "customer_by_id", "arguments": {"id": 1}})
            headers = {
                "Authorization": f"Bearer {token}",
                "Accept": "application/json, text/event-stream",
                **routing(body),
            }
            async with http.post(f"http://127.0.0.1:{ports[0]}/mcp", json=body, headers=headers) as response:
                answer = await response.json()
                assert response.status == 200, answer
            assert answer["result"]["structuredContent"]["rows"][0]["id"] == 1
        finally:
            process.terminate()
            async with asyncio.timeout(20):
                _, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    assert b"Read-only" not in log


def _healthcheck() -> str:
    (rest,) = (rest for word, rest in stages()[1] if word == "HEALTHCHECK")
    return shlex.join(re.findall(r'"((?:[^"])*)"', rest.partition("CMD")[2]))


async def _ready(http: aiohttp.ClientSession, admin: str, process: asyncio.subprocess.Process) -> None:
    said = ""
    try:
        async with asyncio.timeout(30):
            while True:
                assert process.returncode is None, (await process.communicate())[1]
                try:
                    async with http.get(f"{admin}/healthz/ready") as response:
                        said = await response.text()
                        if response.status == 200:
                            return
                except aiohttp.ClientError as error:
                    said = str(error)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not ready: {said}") from None
