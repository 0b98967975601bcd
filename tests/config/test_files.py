"""Changes are told by content, and no file is read again that nobody touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gateway.config.files import Watch
from gateway.config.secrets import FileSecret


def age(file: Path, seconds: float = 100) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_change_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("one")
    watch = Watch(file)
    assert not watch.look()
    file.write_text("two")
    assert watch.look()
    assert not watch.look()
    file.unlink()
    assert watch.look()
    assert not watch.look()
    file.write_text("two")
    assert watch.look()


def test_the_same_stamp_is_trusted_only_when_it_is_old(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("one")
    stamp = file.stat().st_mtime_ns
    watch = Watch(file)
    file.write_text("two")
    os.utime(file, ns=(stamp, stamp))  # within one tick of the file system's clock
    assert watch.look()
    age(file)
    assert not watch.look()
    stamp = file.stat().st_mtime_ns
    file.write_text("six")
    os.utime(file, ns=(stamp, stamp))
    assert not watch.look()


def test_what_is_followed_counts_from_when_it_is(tmp_path: Path) -> None:
    file, secret = tmp_path / "gateway.yaml", tmp_path / "secret"
    file.write_text("one")
    watch = Watch(tmp_path)
    watch.follow({secret})
    assert not watch.look()
    secret.write_text("s")
    assert watch.look()
    watch.follow({secret})
    secret.write_text("t")
    watch.follow({secret})  # followed already: what changed since the last look is still told
    assert watch.look()
    watch.follow(set())
    secret.write_text("u")
    assert not watch.look()


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    watch = Watch(tmp_path)
    watch.follow({pipe, tmp_path, tmp_path / "absent", Path("/dev/zero")})
    assert not watch.look()


def test_secrets_of_one_file_are_equal_whatever_it_says(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("first")
    other.write_text("first")
    one, again = FileSecret(file, "first"), FileSecret(file, "second")
    assert one == again
    assert hash(one) == hash(again)
    assert one != FileSecret(other, "first")
    assert one != "first"
