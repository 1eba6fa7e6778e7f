"""Saved packs come back whole or not at all; baselines come back without a machine-learning library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from altforecast.bar_grid import bar_grid
from altforecast.errors import InputError, StorageError
from altforecast.forecast_features import build_features
from altforecast.forecast_packs import Pack
from altforecast.forecast_params import BoosterParams, FoldParams, ModelParams
from altforecast.forecast_training import train_baseline, train_candidate
from altforecast.types import Timeframe
from altforecast_io.model_files import load_pack, save_pack
from tests.domain.forecast_panel import panel

SMALL = BoosterParams(rounds=3, leaves=4, min_rows=50)
PARAMS = ModelParams(SMALL, SMALL, SMALL, SMALL, min_own_rows=800)
FEW = FoldParams(min_own_rows=400)
GRID = bar_grid(panel(60, symbols=("BTC-USDT", "ETH-USDT")), Timeframe.H1)
AT = 1_700_000_000_000


@pytest.fixture(scope="module")
def candidate() -> Pack:
    return train_candidate(GRID, build_features(GRID), "4h", AT, params=PARAMS, fold_params=FEW).pack


@pytest.fixture(scope="module")
def baseline() -> Pack:
    return train_baseline(GRID, "4h", AT, fold_params=FEW).pack


def assert_same(found: Pack, pack: Pack) -> None:
    assert found.info == pack.info
    assert found.har.as_dict() == pack.har.as_dict()
    assert found.residuals.series == pack.residuals.series
    np.testing.assert_array_equal(found.residuals.ts, pack.residuals.ts)
    for kind in ("values", "pending"):
        stored, kept = getattr(found.residuals, kind), getattr(pack.residuals, kind)
        assert set(stored) == set(kept)
        for part, values in kept.items():
            assert stored[part].dtype == values.dtype
            np.testing.assert_array_equal(stored[part], values)


def test_load_pack_gives_back_what_was_saved(candidate: Pack, baseline: Pack, tmp_path: Path) -> None:
    save_pack(candidate, tmp_path / "v1")
    save_pack(baseline, tmp_path / "har")
    found = load_pack(tmp_path / "v1")
    assert_same(found, candidate)
    assert_same(load_pack(tmp_path / "har"), baseline)
    assert candidate.bundle is not None
    assert found.bundle is not None
    x = np.random.default_rng(2).normal(size=(50, len(candidate.info.features) + 1)).astype(np.float32)
    np.testing.assert_array_equal(found.bundle.shape.predict(x), candidate.bundle.shape.predict(x))
    assert found.bundle.platt == candidate.bundle.platt
    assert {p.name for p in tmp_path.iterdir()} == {"v1", "har"}, "nothing half-written is left"


def test_load_pack_leaves_out_what_is_not_wanted(candidate: Pack, tmp_path: Path) -> None:
    save_pack(candidate, tmp_path / "v1")
    for path in (tmp_path / "v1").glob("residuals_*"):
        path.unlink()
    found = load_pack(tmp_path / "v1", with_models=False, with_residuals=False)
    assert (found.info, found.bundle, len(found.residuals.ts)) == (candidate.info, None, 0)
    with pytest.raises(InputError, match="residuals"):
        save_pack(found, tmp_path / "v2")


def test_save_pack_keeps_what_is_there(baseline: Pack, tmp_path: Path) -> None:
    save_pack(baseline, tmp_path / "v1")
    before = {path.name: path.read_bytes() for path in (tmp_path / "v1").iterdir()}
    with pytest.raises(StorageError):
        save_pack(baseline, tmp_path / "v1")
    assert {path.name: path.read_bytes() for path in (tmp_path / "v1").iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_pack(baseline, tmp_path / "file" / "v1")
    assert {p.name for p in tmp_path.iterdir()} == {"v1", "file"}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("harm", [cut_short, one_byte, garbage, Path.unlink])
@pytest.mark.parametrize("name", ["pack.json", "manifest.json", "shape_2.txt", "residuals_har.npy", "pending_scale.npy"])
def test_load_pack_names_what_is_broken(candidate: Pack, tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    save_pack(candidate, tmp_path / "v1")
    harm(tmp_path / "v1" / name)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_pack(tmp_path / "v1")


def test_load_pack_refuses_other_formats(baseline: Pack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no pack\.json"):
        load_pack(tmp_path / "none")
    save_pack(baseline, tmp_path / "v1")
    path = tmp_path / "v1" / "pack.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "format": 2}))
    with pytest.raises(InputError, match="format"):
        load_pack(tmp_path / "v1")
    path.write_text(json.dumps({**written, "info": {**written["info"], "horizon": "1h"}}))
    with pytest.raises(InputError, match="altered"):
        load_pack(tmp_path / "v1")
    for content in ("[]", "{}", "7"):
        path.write_text(content)
        with pytest.raises(InputError, match="lacks"):
            load_pack(tmp_path / "v1")


def test_baselines_and_bare_packs_load_no_machine_learning_library(candidate: Pack, baseline: Pack, tmp_path: Path) -> None:
    save_pack(candidate, tmp_path / "v1")
    save_pack(baseline, tmp_path / "har")
    code = (
        "import sys; from pathlib import Path; from altforecast_io.model_files import load_pack; import altforecast.forecasting;"
        "import altforecast.forecast_training;"
        "load_pack(Path(sys.argv[1]) / 'har'); load_pack(Path(sys.argv[1]) / 'v1', with_models=False);"
        "print([name for name in ('lightgbm', 'mlflow', 'pandas', 'dagster') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
