"""Docs are checked where they can be: links, commands, routes, paths, tables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from altforecast.tables import TABLES

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#\s]+)")
CODE_PATH = re.compile(r"`((?:altforecast|altforecast_\w+|realtime|tests|docs|deploy|benchmarks)/[\w/-]*(?:\.\w+|/))`")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    dead = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    dead += [path for path in CODE_PATH.findall(text) if not (REPOSITORY / path).exists()]
    assert not dead


def test_readme_names_only_commands_that_exist() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", readme))
    assert named
    assert named <= targets
    commands = set(re.findall(r"bin/altforecast ([a-z-]+)", readme))
    shown = subprocess.run([REPOSITORY / ".venv/bin/altforecast", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"\b{command}\b", shown) for command in commands)


def test_makefile_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=REPOSITORY, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^  make (\S+)", listed, re.MULTILINE)) == set(phony.group(1).split())


def test_api_page_names_every_route() -> None:
    from altforecast_io.settings import Settings
    from altforecast_serving.app import create_app

    text = (REPOSITORY / "docs" / "api.md").read_text()
    paths = create_app(Settings.load()).openapi()["paths"]
    assert [p for p in paths if p not in text] == []


def test_every_table_has_a_documented_method() -> None:
    methods = "\n".join(p.read_text() for p in (REPOSITORY / "docs" / "methods").glob("*.md"))
    outside = {"quarantine", "market_context"}
    assert [name for name in TABLES if name not in methods and name not in outside] == []


def test_pictures_of_the_readme_are_pictures() -> None:
    for name in re.findall(r"docs/screenshots/[\w-]+\.png", (REPOSITORY / "README.md").read_text()):
        assert (REPOSITORY / name).read_bytes().startswith(b"\x89PNG"), name
