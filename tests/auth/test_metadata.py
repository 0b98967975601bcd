"""The metadata document (RFC 9728) and challenges (RFC 6750 section 3) as a client parses them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.metadata import challenge, metadata_url, resource_metadata
from gateway.config.auth import AuthSettings
from tests.auth.provider import auth_settings

URL = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
_PARAMETER = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parse(value: str) -> dict[str, str]:
    """Every auth-param of a Bearer challenge; fails when anything is left over."""
    assert value.startswith("Bearer ")
    pairs = _PARAMETER.findall(value)
    assert ", ".join(f'{name}="{text}"' for name, text in pairs) == value.removeprefix("Bearer ")
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name: re.sub(r"\\(.)", r"\1", text) for name, text in pairs}


def test_without_a_token_there_is_no_error() -> None:
    assert parse(challenge(URL, scopes=["mcp:tools"])) == {"resource_metadata": URL, "scope": "mcp:tools"}
    assert parse(challenge(URL)) == {"resource_metadata": URL}


def test_a_bad_token_and_a_missing_scope() -> None:
    bad = challenge(URL, error="invalid_token", description="It has expired.")
    assert parse(bad) == {"error": "invalid_token", "error_description": "It has expired.", "resource_metadata": URL}
    missing = parse(challenge(URL, error="insufficient_scope", scopes=["b", "a", "b"]))
    assert missing == {"error": "insufficient_scope", "scope": "b a", "resource_metadata": URL}


@given(st.text(), st.lists(st.text()))
def test_nothing_breaks_out_of_its_quotes(description: str, scopes: list[str]) -> None:
    value = challenge(URL, error="invalid_token", description=description, scopes=scopes)
    assert value.isascii()
    assert value.isprintable()
    parsed = parse(value)
    assert parsed["resource_metadata"] == URL
    assert parsed["error"] == "invalid_token"
    assert set(parsed.get("scope", "").split()) <= set(scopes)


def test_the_document() -> None:
    settings = auth_settings(["https://a.example/", "https://b.example"])
    assert resource_metadata("https://mcp.example.com/mcp", settings, ["b", "a", "a", "offline_access", "x y"]) == {
        "resource": "https://mcp.example.com/mcp",
        "resource_name": "MCP Database Gateway",
        "authorization_servers": ["https://a.example/", "https://b.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["a", "b"],
    }
    assert "authorization_servers" not in resource_metadata("http://127.0.0.1/mcp", AuthSettings(mode="none"), [])


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://mcp.example.com/mcp", URL),
        ("https://mcp.example.com", "https://mcp.example.com/.well-known/oauth-protected-resource"),
        ("https://mcp.example.com/", "https://mcp.example.com/.well-known/oauth-protected-resource"),
        ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080/.well-known/oauth-protected-resource/a/b"),
    ],
)
def test_where_the_document_is(resource: str, url: str) -> None:
    assert metadata_url(resource) == url


def test_clients_are_told_once_whom_to_ask() -> None:
    issuers = [
        {"issuer": "https://a.example", "audiences": ("a",), "advertised": "https://login.example"},
        {"issuer": "https://b.example", "audiences": ("a",), "advertised": "https://login.example"},
        {"issuer": "https://c.example", "audiences": ("a",)},
    ]
    settings = AuthSettings.model_validate({"issuers": tuple(issuers)})
    named = resource_metadata("https://mcp.example.com/mcp", settings, [])["authorization_servers"]
    assert named == ["https://login.example", "https://c.example"]
