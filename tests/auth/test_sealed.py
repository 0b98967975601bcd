"""Sealed entries, against whoever reads, changes, copies or forges them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.sealed import Sealer

KEY = "k" * 32
CONTEXT = b"c" * 32
DIGEST = b"d" * 32


@given(st.binary(max_size=200))
def test_what_was_sealed_opens_under_its_name_only(value: bytes) -> None:
    sealer = Sealer(KEY, CONTEXT)
    name, other = sealer.name(DIGEST), sealer.name(b"e" * 32)
    sealed = sealer.seal(name, value)
    assert sealer.unseal(name, sealed) == value
    assert sealer.unseal(other, sealed) is None
    assert Sealer("x" * 32, CONTEXT).unseal(name, sealed) is None
    assert sealer.seal(name, value) != sealed
    assert len(value) < 4 or value not in sealed


@given(st.binary(max_size=100), st.integers(0), st.integers(1, 255))
def test_one_changed_byte_is_noticed(value: bytes, where: int, change: int) -> None:
    sealer = Sealer(KEY, CONTEXT)
    name = sealer.name(DIGEST)
    sealed = bytearray(sealer.seal(name, value))
    sealed[where % len(sealed)] ^= change
    assert sealer.unseal(name, bytes(sealed)) is None


@given(st.binary(max_size=60))
def test_anything_else_does_not_open(junk: bytes) -> None:
    sealer = Sealer(KEY, CONTEXT)
    assert sealer.unseal(sealer.name(DIGEST), junk) is None


def test_names_depend_on_key_context_and_digest_and_tell_nothing() -> None:
    names = {
        Sealer(KEY, CONTEXT).name(DIGEST),
        Sealer("x" * 32, CONTEXT).name(DIGEST),
        Sealer(KEY, b"x" * 32).name(DIGEST),
        Sealer(KEY, CONTEXT).name(b"x" * 32),
    }
    assert len(names) == 4
    assert DIGEST.hex() not in names
    assert Sealer(KEY, CONTEXT).name(DIGEST) in names
