"""Run a Python module once something listens: `python -m altforecast_cli.when_ready PORT -m MODULE WORDS...`.

What belongs here: waiting, bounded. What does not: knowing what is run, or whether the listener is healthy.
"""

from __future__ import annotations

import os
import socket
import sys
import time

WAIT_SEC = 120.0
PAUSE_SEC = 0.25


def wait_until_ready(port: int, seconds: float = WAIT_SEC) -> bool:
    """Whether something on this machine listened on the port within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return True
        except OSError:
            time.sleep(PAUSE_SEC)
    return False


def main(words: list[str]) -> int:
    """Wait for the port, then become the module; exit code 1 when nothing ever listens there."""
    port, *module = words
    if wait_until_ready(int(port)):
        os.execv(sys.executable, [sys.executable, *module])
    print(f"nothing listened on port {port} within {WAIT_SEC:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
