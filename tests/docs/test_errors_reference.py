"""The reference of errors names every code, says rightly which may be retried, and names no other."""

from __future__ import annotations

import re
from pathlib import Path

from gateway import errors
from gateway.errors import Code, ToolError
from gateway.tools.results import ERROR_KEY

_PAGE = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text()
_TOOLS, _PROTOCOL = _PAGE.split("## JSON-RPC errors")


def test_every_tool_code_is_documented_with_its_retryability() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (yes|no) \|", _TOOLS, re.MULTILINE)
    assert dict(rows) == {code.value: "yes" if ToolError(code, "").is_retryable else "no" for code in Code}
    assert ERROR_KEY in _TOOLS


def test_every_json_rpc_code_of_ours_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| `(-32\d{3})` \|", _PROTOCOL, re.MULTILINE)}
    ours = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert len(ours) >= 7
    assert ours <= documented
    standard = {-32700, -32600, -32601, -32602, -32603}
    mcp = {-32020, -32021, -32022}
    assert documented == ours | standard | mcp
