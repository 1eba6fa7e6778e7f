"""Run a Python module once the API answers: `python -m altforecast_cli.when_ready PORT -m MODULE WORDS...`.

What belongs here: waiting, bounded. What does not: knowing what is run.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request

WAIT_SEC = 120.0
PAUSE_SEC = 0.25


def wait_until_ready(url: str, seconds: float = WAIT_SEC) -> bool:
    """Whether the URL answered 200 within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            time.sleep(PAUSE_SEC)
    return False


def main(words: list[str]) -> int:
    """Wait for the API on the port, then become the module; exit code 1 when it never answers."""
    port, *module = words
    if wait_until_ready(f"http://127.0.0.1:{int(port)}/healthz"):
        os.execv(sys.executable, [sys.executable, *module])
    print(f"the API on port {port} did not answer within {WAIT_SEC:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
