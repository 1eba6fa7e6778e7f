"""The glossary of quantities, written from the schema registry.

What belongs here: turning `tables` into docs/glossary.md, by `python -m altforecast.glossary > docs/glossary.md`. What does not: any
definition; each stands in `tables` once.
"""

from __future__ import annotations

from altforecast.tables import TABLES, Column, Table

HEAD = """# Glossary: every table and quantity

Written by `python -m altforecast.glossary > docs/glossary.md` from `altforecast/tables.py`; change it there. `?` marks columns that may be
null. "quote" is the unit of the price, "base" that of the traded coin, "sd" standard deviations.
"""


def glossary() -> str:
    """The whole page as Markdown, ending in one line break."""
    return "\n".join([HEAD, *(_section(table) for table in TABLES.values())])


def _section(table: Table) -> str:
    about = [f"## {table.name}", "", f"{table.meaning}. One row: {table.grain}. Key: {', '.join(table.key)}.", ""]
    return "\n".join([*about, "| column | unit | meaning |", "|---|---|---|", *(_row(c) for c in table.columns), ""])


def _row(column: Column) -> str:
    unit, meaning = (text.replace("|", "\\|") for text in (column.unit or "-", column.meaning))
    return f"| `{column.name}`{'?' if column.nullable else ''} | {unit} | {meaning} |"


if __name__ == "__main__":
    print(glossary(), end="")
