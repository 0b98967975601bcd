"""What the pods are given is what the gateway knows: files, variables, flags, and a configuration that it accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli.main import build_parser, main
from tests.k8s.mounts import lay_out, mounts
from tests.k8s.rendered import VARIANTS, configuration, gateway_container, one, text

# What OpenTelemetry's specification, Python's and OpenSSL's documentation and gateway/net/proxy.py define.
VARIABLES = re.compile(r"OTEL_[A-Z_]+|SSL_CERT_(?:FILE|DIR)|PYTHONUNBUFFERED|(?:HTTPS|NO)_PROXY")


def _files(name: str, folder: Path) -> Path:
    deployment = one(name, "Deployment")
    return lay_out(name, list(mounts(name, deployment, gateway_container(name))), folder)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gateway_accepts_its_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in gateway_container(name).get("env", ()):
        monkeypatch.setenv(variable["name"], variable.get("value", "from-the-cluster"))
    folder = _files(name, tmp_path)
    assert main(["check", "--offline", "--config", str(folder)]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("OK: ")


def test_a_mistake_in_a_mounted_file_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _files("production", tmp_path)
    (folder / "..data/tools.yaml").write_text("tools: {x: {description: X., source: nowhere, statement: select 1}}")
    assert main(["check", "--offline", "--config", str(folder)]) == 1
    assert "there is no source of this name" in capsys.readouterr().err


@pytest.mark.parametrize("name", VARIANTS)
def test_every_mounted_key_is_used(name: str) -> None:
    written = "\n".join(one(name, "ConfigMap", "gateway-config")["data"].values())
    for mount in mounts(name, one(name, "Deployment"), gateway_container(name)):
        for file in mount.files:
            if mount.kind == "configMap":
                assert mount.path == "/etc/gateway"
                assert re.fullmatch(r"[a-z-]+\.yaml", file), "the gateway reads *.yaml only"
            elif not re.search(rf"{re.escape(mount.path)}$", written, re.MULTILINE):  # else the folder is a setting
                assert f"{mount.path}/{file}" in written


@pytest.mark.parametrize("name", VARIANTS)
def test_the_container_says_only_what_the_gateway_knows(name: str) -> None:
    container = gateway_container(name)
    assert "command" not in container, "the image's entry point is the gateway"
    arguments = build_parser(container["args"][:1]).parse_args(container["args"])
    assert str(arguments.config) == "/etc/gateway"
    assert "envFrom" not in container
    used = set(
        re.findall(r"\$\{env:([A-Za-z_0-9]+)", "\n".join(one(name, "ConfigMap", "gateway-config")["data"].values()))
    )
    named = [each["name"] for each in container.get("env", ())]
    for position, variable in enumerate(container.get("env", ())):
        referred = re.findall(r"\$\(([A-Z_0-9]+)\)", variable.get("value", ""))
        assert set(referred) <= set(named[:position]), "Kubernetes fills in only what stands above"
        used |= set(referred)
    assert all(each in used or VARIABLES.fullmatch(each) for each in named)
    assert used <= set(named)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_secret_is_written_down(name: str) -> None:
    assert "kind: Secret\n" not in text(name)
    for line in text(name).splitlines():
        if re.match(r"\s*(password|key|wallet_password|client_secret|chain_key):", line):
            assert "${file:" in line or re.search(r": (/run/|[a-z-]+\.?[a-z]*$|mcp-gateway)", line), line


def test_tokens_are_never_in_clear_in_production() -> None:
    for name in ("staging", "production"):
        settings = configuration(name)
        assert settings["server"]["tls"]["min_version"] == "1.3"
        assert settings["server"]["public_url"].startswith("https://")
        assert {issuer["issuer"][:8] for issuer in settings["auth"]["issuers"]} == {"https://"}
        for source in settings["sources"].values():
            assert source["tls"]["mode"] == "verify-full"
            assert {"certificate", "key", "ca"} <= source["tls"].keys(), "mutual TLS"
