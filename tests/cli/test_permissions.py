"""`gateway check --as`: what it tells of a caller is what the gateway does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main

_ISSUER = "auth: {issuers: [{issuer: https://idp.example.com/, audiences: [https://mcp.example.com/mcp]}]}\n"
_TOOLS = """
server: {public_url: https://mcp.example.com}
sources:
  shop: {engine: sqlite, path: shop.db}
tools:
  plain: {description: x, source: shop, statement: select 1 as one}
  off: {description: x, source: shop, enabled: false, statement: select 1 as one}
  own:
    description: x
    source: shop
    parameters: {tenant: {type: string, from_claim: a.tenant}}
    statement: select :tenant as t
  ruled:
    description: x
    source: shop
    allow: [{claim: level, in: [1, 2]}, {claim: region, equals_argument: region}]
    parameters: {region: {type: string}}
    statement: select :region as r
toolsets:
  few: {tools: [plain, off], scopes: ["few:use"]}
"""


def ask(folder: Path, claims: Any, capsys: pytest.CaptureFixture[str], auth: str = _ISSUER) -> tuple[int, str, str]:
    (folder / "gateway.yaml").write_text(auth + _TOOLS)
    path = folder / "claims.json"
    path.write_text(claims if isinstance(claims, str) else json.dumps(claims))
    code = main(["check", "--offline", "--config", str(folder / "gateway.yaml"), "--as", str(path), "--json"])
    out, err = capsys.readouterr()
    return code, out, err


def told(folder: Path, claims: Any, capsys: pytest.CaptureFixture[str], auth: str = _ISSUER) -> dict[str, Any]:
    code, out, _ = ask(folder, claims, capsys, auth)
    assert code == 0
    return {
        f"{each['path']} {each['tool']}": each["why"] or each["may_call"] for each in json.loads(out)["permissions"]
    }


def test_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, {}, capsys) == {
        "/mcp own": "403: needs mcp:tools",
        "/mcp plain": "403: needs mcp:tools",
        "/mcp ruled": "not there for this caller, who fails: level is one of 1, 2; region equals the argument region",
        "/mcp/few plain": "403: needs few:use mcp:tools",
    }


def test_what_may_be_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = {"scope": "mcp:tools few:use", "level": 1, "region": "eu", "a": {"tenant": "x"}, "exp": 1, "nbf": 9e9}
    assert told(tmp_path, claims, capsys) == {
        "/mcp own": True,
        "/mcp plain": True,
        "/mcp ruled": "where region equals the argument region",
        "/mcp/few plain": True,
    }
    assert told(tmp_path, claims | {"a": {"tenant": None}}, capsys)["/mcp own"] == (
        "access_denied: the token has no a.tenant"
    )


def test_a_token_for_one_toolset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = {"scope": "mcp:tools few:use", "aud": "https://mcp.example.com/mcp/few"}
    found = told(tmp_path, claims, capsys)
    assert found["/mcp/few plain"] is True
    assert found["/mcp plain"] == "401: the token is not for this endpoint"


def test_without_authentication_there_are_no_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auth = "auth: {mode: none}\n"
    tools = _TOOLS.replace("https://mcp.example.com", "http://localhost:8080")
    (tmp_path / "gateway.yaml").write_text(auth + tools)
    (tmp_path / "claims.json").write_text("{}")
    config, claims = str(tmp_path / "gateway.yaml"), str(tmp_path / "claims.json")
    assert main(["check", "--offline", "--config", config, "--as", claims]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "/mcp plain: yes" in lines
    assert "/mcp own: no, access_denied: the token has no a.tenant" in lines
    assert any(line.startswith("/mcp ruled: no, not there") for line in lines)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ("{", "cannot be read as JSON"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "deeper than 64 levels"),
        ("[]", "expected a JSON object"),
        ({"iss": "https://elsewhere.example"}, "a token with these claims is refused"),
        ({"aud": "https://elsewhere.example"}, "a token with these claims is refused"),
        ({"cnf": {"jkt": "x"}}, "a token with these claims is refused"),
        ({"scope": 7}, "scope is not text"),
    ],
)
def test_what_no_token_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], claims: Any, said: str) -> None:
    code, _, err = ask(tmp_path, claims, capsys)
    assert code == 1
    assert said in err
