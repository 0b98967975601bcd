"""What snapshots share is handed over while its settings stay, and closed once, by its last user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.parts import Parts


class Shop:
    """Opens things, and knows which are open."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.closed: list[str] = []
        self.breaks = ""

    @asynccontextmanager
    async def thing(self, name: str) -> AsyncIterator[str]:
        self.open.append(name)
        try:
            yield name
        finally:
            self.open.remove(name)
            self.closed.append(name)
            if name == self.breaks:
                raise OSError(name)

    def opener(self, name: str) -> AbstractAsyncContextManager[str]:
        return self.thing(name)


async def take(shop: Shop, parts: Parts, kind: str, settings: object) -> str:
    return await parts.take(kind, settings, lambda: shop.opener(f"{kind}{settings}"))


async def test_the_last_kind_is_closed_first() -> None:
    shop, parts = Shop(), Parts()
    for kind in ("a", "b", "c"):
        await take(shop, parts, kind, 1)
    await parts.close()
    assert shop.closed == ["c1", "b1", "a1"]
    await parts.close()
    assert shop.closed == ["c1", "b1", "a1"]


async def test_one_that_fails_to_close_stops_no_other() -> None:
    shop, parts = Shop(), Parts()
    shop.breaks = "b1"
    for kind in ("a", "b", "c"):
        await take(shop, parts, kind, 1)
    with pytest.raises(OSError, match="b1"):
        await parts.close()
    assert not shop.open


async def test_one_that_fails_to_open_leaves_the_others_to_be_closed() -> None:
    shop, first = Shop(), Parts()
    await take(shop, first, "a", 1)

    @asynccontextmanager
    async def broken() -> AsyncIterator[str]:
        raise OSError("no")
        yield ""

    second = Parts(first)
    await take(shop, second, "a", 1)
    with pytest.raises(OSError, match="no"):
        await second.take("b", 1, broken)
    await second.close()
    assert shop.open == ["a1"]
    await first.close()
    assert not shop.open


@given(st.lists(st.tuples(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), min_size=1), st.booleans())))
async def test_any_row_of_snapshots_leaves_nothing_open_and_nothing_closed_in_use(
    steps: list[tuple[dict[str, int], bool]],
) -> None:
    shop = Shop()
    living: list[tuple[Parts, dict[str, int]]] = []
    for wanted, is_lasting in steps:
        parts = Parts(living[-1][0] if living else None)
        for kind, settings in wanted.items():
            await take(shop, parts, kind, settings)
        parts.settled()
        living.append((parts, wanted))
        while len(living) > 1 and not is_lasting:
            await living.pop(0)[0].close()
        for each, settings_of in living:
            assert {kind: f"{kind}{settings}" for kind, settings in settings_of.items()} == {
                kind: part.value for (kind, _), part in each.held.items()
            }
            assert {part.value for part in each.held.values()} <= set(shop.open)
    for parts, _ in living:
        await parts.close()
    assert not shop.open
