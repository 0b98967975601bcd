"""The sample database: a small shop, the same every time it is made.

Tables: `customers` (1,000), `products` (200), `orders` (5,000) and
`order_lines` (about 12,500). Money is in whole cents, because SQLite has no
exact decimals.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

CUSTOMERS: Final = 1000
PRODUCTS: Final = 200
ORDERS: Final = 5000
_SEED: Final = 20251122
_FIRST_DAY: Final = date(2024, 1, 1)
_DAYS: Final = 700

_SCHEMA: Final = """
create table customers (
    id integer primary key,
    name text not null,
    email text not null unique,
    country text not null,
    since text not null
);
create table products (
    id integer primary key,
    name text not null,
    category text not null,
    price_cents integer not null check (price_cents > 0)
);
create table orders (
    id integer primary key,
    customer_id integer not null references customers (id),
    ordered_on text not null,
    status text not null check (status in ('open', 'paid', 'shipped', 'cancelled'))
);
create table order_lines (
    order_id integer not null references orders (id),
    line integer not null,
    product_id integer not null references products (id),
    quantity integer not null check (quantity > 0),
    price_cents integer not null,
    primary key (order_id, line)
) without rowid;
create index orders_by_customer on orders (customer_id, ordered_on);
create index lines_by_product on order_lines (product_id);
"""

_FIRST: Final = (
    "Ada",
    "Alan",
    "Barbara",
    "Dennis",
    "Edgar",
    "Frances",
    "Grace",
    "Hedy",
    "Ken",
    "Linus",
    "Radia",
    "Tim",
)
_LAST: Final = ("Allen", "Codd", "Gray", "Hopper", "Lamarr", "Liskov", "Lovelace", "Perlman", "Ritchie", "Turing")
_COUNTRIES: Final = ("AT", "BR", "CA", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "NL", "US")
_CATEGORIES: Final = {
    "books": ("Atlas", "Cookbook", "Novel", "Reader"),
    "garden": ("Hose", "Rake", "Spade", "Trowel"),
    "kitchen": ("Kettle", "Knife", "Pan", "Whisk"),
    "office": ("Chair", "Desk", "Lamp", "Stapler"),
}
_COLOURS: Final = ("amber", "black", "blue", "green", "grey", "red", "teal", "white", "yellow", "violet")
_STATUSES: Final = ("open", "paid", "shipped", "shipped", "shipped", "cancelled")


def _customers(chance: random.Random) -> Iterator[tuple[int, str, str, str, str]]:
    for number in range(1, CUSTOMERS + 1):
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        since = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        email = f"{first}.{last}.{number}@example.com".lower()
        yield number, f"{first} {last}", email, chance.choice(_COUNTRIES), since.isoformat()


def _products(chance: random.Random) -> Iterator[tuple[int, str, str, int]]:
    for number in range(1, PRODUCTS + 1):
        category = chance.choice(sorted(_CATEGORIES))
        name = f"{chance.choice(_CATEGORIES[category])}, {chance.choice(_COLOURS)}, no. {number}"
        yield number, name, category, chance.randrange(199, 25000)


def _orders(chance: random.Random) -> Iterator[tuple[int, int, str, str]]:
    for number in range(1, ORDERS + 1):
        day = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        yield number, chance.randint(1, CUSTOMERS), day.isoformat(), chance.choice(_STATUSES)


def _lines(chance: random.Random, prices: dict[int, int]) -> Iterator[tuple[int, int, int, int, int]]:
    for order in range(1, ORDERS + 1):
        for line in range(1, chance.randint(1, 4) + 1):
            product = chance.randint(1, PRODUCTS)
            yield order, line, product, chance.randint(1, 5), prices[product]


def make_shop(path: Path) -> None:
    """Write the sample database to a new file.

    Args:
        path: where; must not exist yet.
    """
    chance = random.Random(_SEED)  # noqa: S311 - the same shop every time is the point
    products = list(_products(chance))
    database = sqlite3.connect(path)
    try:
        with database:
            database.executescript(_SCHEMA)
            database.executemany("insert into customers values (?, ?, ?, ?, ?)", _customers(chance))
            database.executemany("insert into products values (?, ?, ?, ?)", products)
            database.executemany("insert into orders values (?, ?, ?, ?)", _orders(chance))
            prices = {number: price for number, _, _, price in products}
            database.executemany("insert into order_lines values (?, ?, ?, ?, ?)", _lines(chance, prices))
        # WAL lets readers and a later writer live side by side.
        database.execute("pragma journal_mode = wal")
        database.execute("analyze")
    finally:
        database.close()
