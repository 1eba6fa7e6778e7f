"""The glossary page is the one that the tables give."""

from __future__ import annotations

from pathlib import Path

from altforecast.glossary import glossary
from altforecast.tables import TABLES


def test_glossary_page_is_current(repository: Path) -> None:
    page = (repository / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert page == glossary(), "run: python -m altforecast.glossary > docs/glossary.md"


def test_glossary_names_every_column() -> None:
    text = glossary()
    for table in TABLES.values():
        section = text.split(f"## {table.name}\n")[1].split("\n## ")[0]
        assert all(f"`{c.name}`" in section for c in table.columns)
