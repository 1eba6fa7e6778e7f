"""Trained packs as folders of plain files: JSON, arrays of residuals, models as text, each with its sum.

What belongs here: writing a pack so that no half-written one can be found, and reading it back whole or not at all. What does not:
the content of the models (`altforecast.models`) and which pack is in use (`altforecast_io.store.models`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.baselines import har_from_dict
from altforecast.errors import InputError, StorageError
from altforecast.forecast_packs import Pack, PackInfo, Residuals

FORMAT = 1
PACK, MODELS = "pack.json", "manifest.json"
"""The file that names all others with their sums, and the one that names the models; no pack without the first."""
MAX_FILE_BYTES = 512 * 1024**2
"""A larger file is not one of ours: residuals of a year, 50 series and nine levels at 15m are 60 MB."""
_ENTRIES = ("format", "info", "har", "series", "first", "step", "n", "files", "digest")


def save_pack(pack: Pack, folder: Path) -> None:
    """Write all files beside the folder first, then put it in place at once.

    Raises StorageError where the disk refuses or the folder exists (a version is never written twice), and InputError for a pack
    without residuals (loaded without them).
    """
    if not len(pack.residuals.ts):
        raise InputError("pack", pack.info.version, "has no residuals: it was loaded without them")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, content in _contents(pack).items():
            (part / name).write_bytes(content)
        os.rename(part, folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"{folder}: {error.strerror}") from error


def load_pack(folder: Path, with_models: bool = True, with_residuals: bool = True) -> Pack:
    """The saved pack; raises InputError naming the file that is missing, unreadable, altered or of another format.

    with_models: False leaves the models out and never loads LightGBM (a baseline has none anyway). with_residuals: False leaves out
    what only the daily calibration needs, most of the bytes.
    """
    manifest = _manifest(folder)
    try:
        info = PackInfo(**{**manifest["info"], "features": tuple(manifest["info"]["features"]), "mixed": tuple(manifest["info"]["mixed"])})
        har, sums = har_from_dict(manifest["har"]), dict(manifest["files"])
        residuals = _residuals(folder, manifest, with_residuals)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("file", PACK, f"{folder.name}: not the manifest of a pack ({type(error).__name__})") from error
    if not with_models or MODELS not in sums:
        return Pack(info, har, residuals)
    _checked(folder, MODELS, sums)
    from altforecast.models import bundle_from_texts  # LightGBM takes seconds to load; baselines do without

    texts = {path.name: _text(path) for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".npy" and path.name != PACK}
    return Pack(info, har, residuals, bundle_from_texts(texts))


def file_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a saved pack, by name; raises InputError for a file that cannot be read."""
    return {path.name: _sum(_bytes(path)) for path in sorted(folder.iterdir()) if path.is_file()}


def _contents(pack: Pack) -> dict[str, bytes]:
    stored = pack.residuals
    files = {f"residuals_{part}.npy": _array_bytes(values) for part, values in stored.values.items()}
    files |= {f"pending_{part}.npy": _array_bytes(values) for part, values in stored.pending.items()}
    models: dict[str, bytes] = {}
    if pack.bundle is not None:
        from altforecast.models import bundle_texts  # see above

        models = {name: text.encode() for name, text in bundle_texts(pack.bundle).items()}
    summed = {**files, **({MODELS: models[MODELS]} if models else {})}
    manifest = {
        "format": FORMAT, "info": asdict(pack.info), "har": pack.har.as_dict(), "series": [list(name) for name in stored.series],
        "first": int(stored.ts[0]), "step": int(stored.ts[1] - stored.ts[0]) if len(stored.ts) > 1 else 0, "n": len(stored.ts),
        "files": {name: _sum(content) for name, content in summed.items()},
    }  # fmt: skip
    text = json.dumps({**manifest, "digest": _digest(manifest)}, indent=1, sort_keys=True)
    return {**files, **models, PACK: text.encode()}


def _array_bytes(values: NDArray[np.floating]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(values), allow_pickle=False)
    return out.getvalue()


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / PACK).is_file():
        raise InputError("model", folder.name, f"has no {PACK}")
    try:
        found = json.loads(_bytes(folder / PACK))
    except ValueError as error:
        raise InputError("file", PACK, f"{folder.name}: not JSON") from error
    missing = [name for name in _ENTRIES if not isinstance(found, dict) or name not in found]
    if missing:
        raise InputError("file", PACK, f"{folder.name}: lacks the entries {', '.join(missing)}")
    if found["format"] != FORMAT:
        raise InputError("format", found["format"], f"{folder.name}: only packs of format {FORMAT} can be read")
    if found.pop("digest") != _digest(found):
        raise InputError("file", PACK, f"{folder.name}: altered, it does not have its own sum")
    return dict(found)


def _residuals(folder: Path, manifest: Mapping[str, Any], wanted: bool) -> Residuals:
    series = tuple((str(s), str(e)) for s, e in manifest["series"])
    if not wanted:
        return Residuals(np.empty(0, dtype=np.int64), series, {}, {})
    ts = manifest["first"] + manifest["step"] * np.arange(manifest["n"], dtype=np.int64)
    values, pending = (
        {name[len(kind) + 1 : -4]: _array(folder, name, manifest["files"]) for name in manifest["files"] if name.startswith(kind)}
        for kind in ("residuals", "pending")
    )
    return Residuals(ts, series, values, pending)


def _array(folder: Path, name: str, sums: Mapping[str, str]) -> NDArray[Any]:
    try:
        return np.asarray(np.load(io.BytesIO(_checked(folder, name, sums)), allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise InputError("file", name, f"{folder.name}: not an array") from error


def _checked(folder: Path, name: str, sums: Mapping[str, str]) -> bytes:
    if not (folder / name).is_file():
        raise InputError("file", name, f"{folder.name}: {PACK} names it, but it is missing")
    content = _bytes(folder / name)
    if _sum(content) != sums[name]:
        raise InputError("file", name, f"{folder.name}: does not have the sum that {PACK} gives")
    return content


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError("file", path.name, f"{path.parent.name}: cannot be read ({type(error).__name__})") from error


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError("file", path.name, f"{path.parent.name}: has more than {MAX_FILE_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError("file", path.name, f"{path.parent.name}: cannot be read ({type(error).__name__})") from error


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    return _sum(json.dumps(manifest, sort_keys=True).encode())
