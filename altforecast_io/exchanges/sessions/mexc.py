"""Session of MEXC spot: protobuf changes every 100 ms (`aggre.depth`) on a REST snapshot of 1,000 levels.

What belongs here: MEXC's subscriptions, answers and pings. What does not: its protobuf (`mexc_wire`), joining (`joined`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast_io.exchanges.sessions.joined import Delta, JoinedSession, Snapshot
from altforecast_io.exchanges.sessions.mexc_wire import read_depth
from altforecast_io.exchanges.sessions.rest_depth import read_snapshot
from altforecast_io.exchanges.sessions.session import NOTHING, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, sounds_limited

CHANNEL = "spot@public.aggre.depth.v3.api.pb@100ms@"
_REST = "https://api.mexc.com/api/v3/depth"
_REFUSING = ("not subscribed", "blocked", "invalid", "illegal")


class _Answer(msgspec.Struct):
    msg: str
    code: int = 0


_decode = msgspec.json.Decoder(_Answer, strict=False).decode


class MexcSession(JoinedSession):
    """Rule: `fromVersion` is one more than the `toVersion` of the message before; at most 30 markets per connection."""

    venue = "mexc"
    url = "wss://wbs-api.mexc.com/ws"
    snapshot_levels = 1000
    ping_every_ns = 15 * NS_PER_S

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "")

    def _ping(self) -> str:
        return '{"method":"PING"}'

    def _subscribe(self) -> Sequence[Output]:
        # one frame per market, so that a refusal says whose it is
        asked = [{"method": "SUBSCRIPTION", "params": [CHANNEL + market]} for market in self._lines]
        return [Send(msgspec.json.encode(each).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if isinstance(payload, str) or payload[:1] == b"{":
            return self._told(_decode(payload))
        depth = read_depth(payload)
        if depth is None:
            return NOTHING
        line = self._lines.get(depth.symbol)
        if line is None:
            return NOTHING
        return self._delta(line, Delta(depth.first, depth.last, depth.bids, depth.asks, depth.ts_event_ms), recv_ns)

    def _told(self, answer: _Answer) -> Sequence[Output]:
        text = answer.msg.lower()
        if not answer.code and not any(word in text for word in _REFUSING):
            return NOTHING
        return self._objected(f"{answer.code} {answer.msg}"[:200], sounds_limited(answer.msg), self._named_in(answer.msg))

    def _snapshot_url(self, market: str) -> str:
        return f"{_REST}?symbol={market}&limit={self.snapshot_levels}"

    def _snapshot(self, body: bytes) -> Snapshot:
        return read_snapshot(body)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> MexcSession:
    """A connection of at most 30 markets; base_url: the stand-in, None for the real venue."""
    return MexcSession(symbols, base_url)
