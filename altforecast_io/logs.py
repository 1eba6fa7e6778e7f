"""Structured logs: one JSON object per line with ts, level, msg, module and request id.

What belongs here: log configuration, rotation and masking. What does not: metrics, or deciding what is worth logging.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson
import structlog

ROTATE_BYTES = 20_000_000
KEEP_FILES = 5
_SECRET_NAME = re.compile(r"(token|secret|password|api_?key|authorization|passphrase)", re.IGNORECASE)
_SECRET_TEXT = (
    (re.compile(r"(/webhook/)[^\s/?\"']+"), r"\1***"),
    (re.compile(r"(/bot)\d+:[A-Za-z0-9_-]+"), r"\1***"),
    (re.compile(r"(://[^:/@\s]+:)[^@/\s]+@"), r"\1***@"),
    (re.compile(r"([?&]key=)[^&\s\"']+"), r"\1***"),
    (re.compile(r"((?:api[-_]?key|token|secret|signature)=)[^&\s\"']+", re.IGNORECASE), r"\1***"),
)


def mask_text(text: str) -> str:
    """The text without webhook tokens, bot tokens, URL passwords and key=value secrets."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: hides values of secret-looking names and secrets inside texts."""
    for name, value in list(event.items()):
        if _SECRET_NAME.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = mask_text(value)
    return event


def configure_logs(level: str = "INFO", folder: Path | None = None, process: str = "altforecast") -> None:
    """Log JSON lines to stderr and, with a folder, to `<folder>/<process>.log` (20 MB, 5 old files kept, then dropped)."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("msg"),
        mask_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.processors.JSONRenderer(serializer=lambda obj, **_: orjson.dumps(obj, default=str).decode())
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
    )
    _install(_handlers(folder, process), formatter, level)
    hush_protocols()


def hush_protocols() -> None:
    """The server's WebSocket library writes every header at DEBUG, and with them API keys: it is kept at INFO."""
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)


def _handlers(folder: Path | None, process: str) -> list[logging.Handler]:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(RotatingFileHandler(folder / f"{process}.log", maxBytes=ROTATE_BYTES, backupCount=KEEP_FILES))
    return handlers


def _install(handlers: list[logging.Handler], formatter: logging.Formatter, level: str) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True
