"""The SDK's packages are whole for whoever asks them for something."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "program",
    [
        "import gateway.server.mcp; from mcp import Client; from mcp.server import MCPServer",
        "import gateway.server.mcp; import mcp; mcp.Client, mcp.types.Tool, mcp.server.MCPServer, mcp.server.stdio",
        "import gateway.server.mcp; from mcp.server import MCPServer; from mcp import Client",
        "import gateway.server.mcp, gateway.net.agent",
        "import gateway.net.agent, gateway.server.mcp",
        "import mcp; was = mcp.Client; import gateway.server.mcp; assert mcp.Client is was",
        "import gateway.server.mcp, mcp; assert not hasattr(mcp, 'nonsense'); assert not hasattr(mcp, 'nonsense')",
    ],
)
def test_the_sdks_packages_are_whole_when_they_are_asked(program: str) -> None:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
