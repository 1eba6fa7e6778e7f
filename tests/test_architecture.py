"""The repository checks itself: contracts, sizes, names, module openings."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "altforecast", "altforecast_io", "altforecast_pipelines", "altforecast_serving", "realtime", "altforecast_sandbox", "altforecast_cli",
)  # fmt: skip
REPOSITORY = Path(__file__).resolve().parent.parent
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}
HEAVY = ("dagster", "mlflow", "lightgbm", "numba", "pandas", "matplotlib")


def sources() -> list[Path]:
    return [p for package in PACKAGES for p in sorted((REPOSITORY / package).rglob("*.py")) if "__pycache__" not in p.parts]


def test_sources_are_short_files() -> None:
    too_long = {str(p.relative_to(REPOSITORY)): n for p in sources() if (n := len(p.read_text().splitlines())) > 400}
    assert not too_long


def test_sources_open_with_what_belongs_there() -> None:
    silent = [str(p.relative_to(REPOSITORY)) for p in sources() if p.name != "__init__.py" and "does not" not in _docstring(p)]
    silent = [p for p in silent if "migrations/versions" not in p]
    assert not silent


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_sources_have_telling_names() -> None:
    assert not [p for p in sources() if p.stem in FORBIDDEN_NAMES]


def test_environment_is_read_in_settings_alone() -> None:
    allowed = {"altforecast_io/settings.py", "altforecast_io/settings_report.py", "altforecast_cli/processes.py"}
    offenders = []
    for path in sources():
        name = str(path.relative_to(REPOSITORY))
        text = path.read_text()
        if name not in allowed and ("os.environ" in text or "os.getenv" in text):
            offenders.append(name)
    assert not offenders


def test_domain_imports_no_clock_disk_or_chance() -> None:
    forbidden = {"os", "pathlib", "time", "random", "asyncio", "socket", "threading"}
    offenders = []
    for path in sorted((REPOSITORY / "altforecast").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            offenders += [f"{path.name}: {n}" for n in _imported(node) if n.split(".")[0] in forbidden]
    assert not offenders


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_public_functions_are_documented() -> None:
    bare = []
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                described = any("overload" in text or "description=" in text for text in map(ast.unparse, node.decorator_list))
                if not described and ast.get_docstring(node) is None:
                    bare.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}")
    assert not [b for b in bare if "migrations/versions" not in b]


@pytest.mark.parametrize("module", ["realtime.app", "altforecast_serving.app"])
def test_application_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == ""


def test_code_location_loads_nothing_heavy() -> None:
    heavy = ("mlflow", "lightgbm", "ccxt", "matplotlib", "numba", "talib")
    code = f"import sys, altforecast_pipelines.definitions; print(','.join(m for m in {heavy!r} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == ""


def test_import_contracts_hold() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(REPOSITORY / "pyproject.toml"), no_cache=True) == 0


def test_repository_names_no_registry_or_machine_path() -> None:
    pattern = r"--(extra-)?index-url[ =]|https?://[^ ]+/simple(/|[^a-z])|(^|[^a-z])/(work|farm)/"
    found = subprocess.run(
        ["git", "grep", "-nIE", "-e", pattern, "--", ".", ":!tests/test_architecture.py", ":!*.svg"],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert found.stdout == ""
