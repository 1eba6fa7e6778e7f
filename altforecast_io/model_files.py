"""Trained models as folders of plain text files.

What belongs here: writing a bundle so that no half-written one can be found, and reading it back. What does not: the content of the
files (`altforecast.models`) and which model is in use.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from altforecast.errors import InputError, StorageError
from altforecast.models import MANIFEST, ModelBundle, bundle_from_texts, bundle_texts

MAX_FILE_BYTES = 64 * 1024**2
"""A larger file is not one of ours."""


def save_bundle(bundle: ModelBundle, folder: Path) -> None:
    """Write all files beside the folder first, then put it in place at once; raises StorageError, also where the folder exists."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, text in bundle_texts(bundle).items():
            (part / name).write_text(text)
        os.rename(part, folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"{folder}: {error.strerror}") from error


def load_bundle(folder: Path) -> ModelBundle:
    """The saved models; raises InputError naming the file that is missing, unreadable or altered."""
    if not (folder / MANIFEST).is_file():
        raise InputError("model", folder.name, f"has no {MANIFEST}")
    return bundle_from_texts({path.name: _text(path) for path in sorted(folder.iterdir()) if path.is_file()})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError("file", path.name, f"has more than {MAX_FILE_BYTES:,} bytes")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("file", path.name, f"cannot be read ({type(error).__name__})") from error
