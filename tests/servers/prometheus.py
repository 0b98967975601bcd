"""A Prometheus of the tests' own, which scrapes one address and answers queries."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.local import HOST, Guardian, as_user, free_port, is_ready, own
from tests.servers.programs import programs

_CONFIGURATION = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: mcp-database-gateway
    static_configs: [{{targets: ["{target}"], labels: {{pod: gateway-0}}}}]
"""


class PrometheusServer:
    """A running server.

    Args:
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query gives now."""
        asked = urllib.parse.urlencode({"query": expression}).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/query", asked, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        result = found["data"]["result"]
        assert isinstance(result, list)
        return result

    def is_ready(self) -> bool:
        return is_ready(f"{self.url}/-/ready")


@contextmanager
def running_prometheus(target: str) -> Iterator[PrometheusServer]:
    """A server that scrapes `host:port`, twice a second."""
    with tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True) as name:
        folder, port = own(Path(name)), free_port()
        file = folder / "prometheus.yml"
        file.write_text(_CONFIGURATION.format(target=target))
        file.chmod(0o644)
        command = [str(programs("prometheus")["prometheus"]), f"--config.file={file}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={HOST}:{port}"]
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            **as_user(),
        )  # fmt: skip
        guardian = Guardian(process.pid, folder)
        try:
            server = PrometheusServer(port)
            until = time.monotonic() + 20
            while not server.is_ready():
                assert process.poll() is None, "prometheus ended"
                assert time.monotonic() < until, "prometheus did not become ready"
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait(10)
            guardian.dismiss()
