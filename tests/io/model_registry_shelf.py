"""A trained model with files, a report and an MLflow backend for tests.

What belongs here: making them small and whole. What does not: assertions.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from altforecast.baselines import HarModel
from altforecast.forecast_packs import Pack, PackInfo, Residuals
from altforecast_io.model_files import save_pack
from altforecast_io.store.models import Model
from tests.domain.test_promotion import table
from tests.io.conftest import NOW

SERIES = (("BTC-USDT", "binance"),)


def pack(version: str, horizon: str = "1h") -> Pack:
    """A pack of one series without models, so that no test needs LightGBM."""
    at = round(NOW.timestamp() * 1000)
    info = PackInfo(version, horizon, "lightgbm", at, at - 86_400_000, at - 3_600_000, 5, "3f9a2c", "12")
    har = HarModel(np.array([0.5, 0.25]), {SERIES[0]: 0.1}, 0.2, {})
    values = {"har": np.linspace(-1, 1, 5)[:, None]}
    return Pack(info, har, Residuals(at + 3_600_000 * np.arange(5), SERIES, values, {}))


def shelve(models_dir: Path, version: str, horizon: str = "1h", family: str = "lightgbm", **changes: Any) -> Model:
    """Files below `models_dir` and the row that belongs to them. changes: of the report's scores."""
    folder = f"{horizon}/{version}"
    (models_dir / horizon).mkdir(parents=True, exist_ok=True)
    save_pack(pack(version, horizon), models_dir / folder)
    report = table(**changes) | {
        "verdicts": [{"goal": "F1", "horizon": horizon, "reached": "6.5%", "gate": "≥ 6.2%", "is_met": True, "aim": ""}],
        "parameters": {"booster": {"rounds": 100, "leaves": 31}, "mixed": ["scale", "shape"]},
        "lake_versions": {"bars@1h@2024-01": "v7", "bars@1h@2024-02": "v8", "regime@2024-02": "v9"},
        "folds": [[1_703_980_800_000, 1_704_067_200_000, 1_711_929_600_000]],
        "direction": {"accuracy": 0.519, "majority": 0.504, "rank_ic": None,
                      "reliability": [[100, 0.48, 0.47], [100, 0.50, 0.51], [100, 0.52, 0.53]]},
    }  # fmt: skip
    return Model(
        version, horizon, family, folder, NOW, NOW - timedelta(days=120), NOW - timedelta(days=1), 1000, "3f9a2c", "12", "run-of-dagster",
        report,
    )  # fmt: skip
