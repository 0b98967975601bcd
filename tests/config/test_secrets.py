"""Secrets that are files: their value now, never shown."""

from __future__ import annotations

import logging

import pytest

from gateway.config.secrets import FileSecret
from gateway.config.sources import PostgresqlSettings
from tests.config.conftest import Desk

SOURCE = "sources: {shop: {engine: postgresql, host: db, database: d, user: u, password: '%s'}}\n"


def password_of(desk: Desk, text: str) -> FileSecret:
    source = desk.load(SOURCE % text).settings.sources["shop"]
    assert isinstance(source, PostgresqlSettings)
    assert isinstance(source.password, FileSecret)
    return source.password


def test_a_changed_file_is_a_changed_secret(desk: Desk) -> None:
    file = desk.folder / "word"
    file.write_text("first\n")
    secret = password_of(desk, "${file:word}")
    assert secret.get_secret_value() == "first"
    file.write_text("other\n")  # of the same length, and maybe within the clock's grain
    assert secret.get_secret_value() == "other"
    file.unlink()
    (desk.folder / "new").write_text("third")
    (desk.folder / "new").rename(file)  # how an orchestrator replaces a mounted secret
    assert secret.get_secret_value() == "third"


def test_the_last_value_stays_while_the_file_is_unusable(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    file = desk.folder / "word"
    file.write_text("hunter2")
    secret = password_of(desk, "${file:word}")
    with caplog.at_level(logging.DEBUG):
        for spoil in (file.unlink, lambda: file.write_bytes(b"\xff\xff"), lambda: file.write_text("")):
            spoil()
            assert secret.get_secret_value() == "hunter2"
    assert str(file) in caplog.text
    assert "hunter2" not in caplog.text + repr(secret) + str(secret)


def test_only_a_whole_reference_to_a_file_is_followed(desk: Desk) -> None:
    (desk.folder / "word").write_text("first")
    desk.environment = {"WORD": "hunter2"}
    for text in ("${env:WORD}", "x${file:word}"):
        source = desk.load(SOURCE % text).settings.sources["shop"]
        assert isinstance(source, PostgresqlSettings)
        assert not isinstance(source.password, FileSecret)


def test_a_relative_path_starts_at_the_configuration(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "word").write_text("first")
    secret = password_of(desk, "${file:word}")
    monkeypatch.chdir("/")
    (desk.folder / "word").write_text("second")
    assert secret.get_secret_value() == "second"
