"""Saved models come back whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from altforecast.errors import InputError, StorageError
from altforecast.forecast_params import BoosterParams, ModelParams
from altforecast.models import Lesson, ModelBundle, fit_bundle
from altforecast_io.model_files import load_bundle, save_bundle

SMALL = BoosterParams(rounds=3, leaves=4, min_rows=20)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    lesson = Lesson(x, np.zeros(400), x[:, 0] + rng.normal(size=400), rng.normal(size=400), np.zeros(400, dtype=np.int64), (("A", "x"),))
    return fit_bundle(lesson, ModelParams(SMALL, SMALL, SMALL, SMALL, min_own_rows=100), "4h", ("a", "b"))


def test_load_bundle_gives_back_what_was_saved(bundle: ModelBundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "v1")
    x = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_bundle(tmp_path / "v1").shape.predict(x), bundle.shape.predict(x))
    assert [p.name for p in tmp_path.iterdir()] == ["v1"], "nothing half-written is left"


def test_save_bundle_keeps_what_is_there(bundle: ModelBundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "v1")
    before = sorted((tmp_path / "v1").iterdir())
    with pytest.raises(StorageError):
        save_bundle(bundle, tmp_path / "v1")
    assert sorted((tmp_path / "v1").iterdir()) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_bundle(bundle, tmp_path / "file" / "v1")


def test_load_bundle_names_what_is_broken(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        load_bundle(tmp_path / "none")
    save_bundle(bundle, tmp_path / "v1")
    broken = tmp_path / "v1" / "shape_2.txt"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(InputError, match=r"shape_2\.txt"):
        load_bundle(tmp_path / "v1")
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"shape_2\.txt"):
        load_bundle(tmp_path / "v1")
    broken.unlink()
    with pytest.raises(InputError, match=r"shape_2\.txt"):
        load_bundle(tmp_path / "v1")
