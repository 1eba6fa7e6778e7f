"""The `arg` of a frame: which channel of which instrument, as OKX prints it and Bitget after it.

What belongs here: that one object and what stands for frames without data. What does not: the rest of a frame (`okx`, `bitget`).
"""

from __future__ import annotations

import msgspec

NO_DATA = msgspec.Raw()
"""Stands in frames that carry no `data`; compare with `is`."""


class ChannelArg(msgspec.Struct, gc=False):
    """Channel and instrument in the venue's words; empty where the frame names none."""

    channel: str = ""
    instId: str = ""
