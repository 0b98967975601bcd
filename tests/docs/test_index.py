"""Every page can be found, and every link between pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.rglob("*.md"))
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_index_has_every_page_once_under_its_title() -> None:
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", (DOCS / "index.md").read_text(), re.MULTILINE)
    pages = [page for page in PAGES if page.name != "index.md"]
    titles = [
        (page.read_text().splitlines()[0].removeprefix("# "), page.relative_to(DOCS).as_posix()) for page in pages
    ]
    assert sorted(listed, key=lambda entry: entry[1]) == sorted(titles, key=lambda entry: entry[1])


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link in _LINK.findall(page.read_text()) if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in targets if not (page.parent / link).exists()] == []
