"""The ccxt feed: any venue that ccxt.pro knows, behind the same interface as the native one.

What belongs here: one guarded ccxt instance per connection, its subscriptions, copying its books into ours. What does not: instances and
markets (`ccxt_source`), the checks (`ccxt_guard`), when to connect again (`feeds`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from altforecast.book_health import NS_PER_S, Step
from altforecast.books import Book, BookState
from altforecast.symbols import ccxt_symbol
from altforecast_io.exchanges.feed_limits import FeedLimits
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from realtime.ccxt_guard import (
    BOOK_READERS,
    MESSAGE_READERS,
    UNCHECKED,
    SequenceGuard,
    decimals_told,
    disagreement,
    kraken_checksum,
    reason_of,
)
from realtime.ccxt_source import Hooks, Source, load_pro
from realtime.feeds import NETWORK_ERRORS, PLANNED, Connection, Dial, Ended, Shard

DEPTH = 50
"""Levels per side that are copied on each change."""
RECONCILE_S = 60.0
"""How often a book of a venue without numbers is compared with its REST book [s]."""
MAX_UNCOMPARED = 3
"""Rounds in a row without a comparison of a book after which it is given up: 180 s, the rule of the native bitstamp session."""
MAX_DISAGREEMENT = 2
"""Levels of the best twenty that may differ where the two books are not of one moment [count]."""
WATCH_LIMITS: Mapping[str, int] = {"binance": 1000, "kraken": 100, "bitfinex": 100, "bybit": 200, "bingx": 100}
"""Depth asked of ccxt; other venues send what they send. Small limits on difference feeds give wrong books."""
NO_EVENT_TIME = frozenset({"cryptocom"})
"""Venues whose event time ccxt reads from snapshots alone: of later updates it tells none."""


class CcxtConnection(Hooks):
    """One life of one ccxt instance; after any fault it is thrown away.

    Its frames are not recorded: ccxt chooses channels and depths, and asks REST for snapshots, unseen by us, so no session could
    replay them to the same books.
    """

    def __init__(self, shard: Shard, source: Source, symbols: Sequence[str], limits: FeedLimits) -> None:
        self._shard, self._source, self._limits = shard, source, limits
        self._tools, self._link, self._board = shard.tools, shard.link, shard.tools.board
        self._books = {s: Book(shard.venue, s) for s in symbols}
        self._by_name = {ccxt_symbol(s): book for s, book in self._books.items()}
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._sequence = SequenceGuard(BOOK_READERS, shard.venue)
        self._stream = SequenceGuard(MESSAGE_READERS, shard.venue)
        self._touched: dict[str, Any] = {}
        self._is_inside = False
        self._crc: tuple[str, int] | None = None
        self._text: str | bytes = ""
        """The frame that is being handled."""
        self._digits: dict[str, tuple[int, int]] = {}
        """Decimals of prices and sizes by ccxt's name, as frames print them."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._exchange: Any = None
        self._board.adopt(self._link, self._books)

    # ---- life

    async def live(self) -> Ended:
        """See Connection."""
        began = self._tools.monotonic()
        try:
            await self._guarded_call(self._source.load(tuple(self._books)))
            if not self._ended.done():
                self._refuse_unknown()
            if not self._ended.done():
                self._exchange = self._source.make(self)
                self._exchange.open()
                self._link.last_frame_ns = self._tools.clock_ns()
                self._board.step(self._link, Step.OPENED)
                for batch in self._batches():
                    self._start(self._subscribe(batch))
                self._start(self._tick(began))
                if self._link.venue in UNCHECKED:
                    self._start(self._reconcile())
            return await self._ended
        finally:
            await self._stop()

    def break_off(self, fault: Fault) -> None:
        """See Connection."""
        self._end(Ended(fault.reason.value, fault))

    def _refuse_unknown(self) -> None:
        unknown = [s for s in self._books if ccxt_symbol(s) not in self._source.markets]
        for symbol in unknown:
            if not self._shard.refuse(Fault(FaultReason.REFUSED, symbol, "not among the venue's markets")):
                self._end(Ended(FaultReason.REFUSED.value))
            del self._by_name[ccxt_symbol(symbol)]

    def _batches(self) -> list[list[str]]:
        names = list(self._by_name)
        size = self._limits.ccxt_batch if self._exchange.has.get("watchOrderBookForSymbols") else 1
        return [names[n : n + size] for n in range(0, len(names), size)]

    async def _subscribe(self, names: list[str]) -> None:
        limit = WATCH_LIMITS.get(self._link.venue)
        if len(names) > 1:
            await self._guarded_call(self._exchange.watch_order_book_for_symbols(names, limit))
        else:
            await self._guarded_call(self._exchange.watch_order_book(names[0], limit), names[0])

    async def _guarded_call(self, work: Coroutine[Any, Any, Any], name: str = "") -> None:
        """Whatever ccxt raises is a fault of this connection."""
        try:
            await work
        except Exception as error:
            self._failed(error, name)

    async def _tick(self, began: float) -> None:
        while not self._ended.done():
            await self._tools.sleep(self._tools.pace.tick_s)
            silence_s = (self._tools.clock_ns() - self._link.last_frame_ns) / NS_PER_S
            if silence_s > self._tools.pace.watchdog_s:
                self.break_off(Fault(FaultReason.STALE, None, f"no frame for {silence_s:.0f} s"))
            elif self._shard.is_old(self._tools.monotonic() - began):
                self._end(Ended(PLANNED))

    async def _reconcile(self) -> None:
        """Compare each book with the venue's REST book, one after the other; a difference is a fault, and so is never comparing.

        Errors of ccxt leave a book uncompared for this round; any other error is a bug of ours and ends the connection with it.
        """
        uncompared = dict.fromkeys(self._by_name, 0)
        while not self._ended.done():
            await self._tools.sleep(RECONCILE_S)
            for name, book in list(self._by_name.items()):
                uncompared[name] = 0 if await self._is_compared(name, book) else uncompared[name] + 1
                if uncompared[name] >= MAX_UNCOMPARED:
                    lost_s = MAX_UNCOMPARED * RECONCILE_S
                    self.break_off(Fault(FaultReason.RECONCILE, book.symbol, f"not compared for {lost_s:.0f} s"))

    async def _is_compared(self, name: str, book: Book) -> bool:
        """Whether a book was compared with REST, or had nothing to compare: what is not live is not used."""
        before = (book.bids(DEPTH), book.asks(DEPTH))
        try:
            told = await self._exchange.fetch_order_book(name)
        except load_pro().BaseError:
            return False
        if book.state is BookState.LIVE and not self._ended.done():
            wrong = disagreement(before[0], book.bids(DEPTH), told["bids"]) + disagreement(before[1], book.asks(DEPTH), told["asks"])
            if wrong > MAX_DISAGREEMENT:
                self.break_off(Fault(FaultReason.RECONCILE, book.symbol, f"{wrong} of the best levels differ from the REST book"))
        return True

    # ---- what ccxt tells

    def attach(self, client: Any) -> None:
        """Put ourselves between ccxt's socket client and its handlers: nothing may escape into its receive loop."""
        handle, resolve, reject = client.handle_message, client.resolve, client.reject
        on_close = client.on_close_callback

        def handled(message: Any) -> None:
            self._frame(message, handle)

        def resolved(result: Any, message_hash: Any) -> Any:
            self._note(result)
            return resolve(result, message_hash)

        def rejected(error: Any, message_hash: Any = None) -> Any:
            self._failed(error, str(message_hash or ""))
            return reject(error, message_hash)

        def closed(which: Any, code: Any) -> Any:
            self.break_off(Fault(FaultReason.DISCONNECTED, None, f"closed with code {code}"))
            return on_close(which, code)

        client.handle_message, client.resolve, client.reject, client.on_close_callback = handled, resolved, rejected, closed

    def message(self, message: Any) -> None:
        """See Hooks."""
        hole = self._stream.hole(message)
        if hole is not None:
            self.break_off(Fault(FaultReason.GAP, None, hole))

    def book_message(self, message: Any) -> None:
        """See Hooks."""
        hole = self._sequence.hole(message)
        if hole is not None:
            self.break_off(Fault(FaultReason.GAP, None, hole))
        if self._link.venue == "kraken":
            first = message["data"][0]
            self._crc = (first["symbol"], first["checksum"])
            told, (price, size) = decimals_told(self._text), self._digits.get(first["symbol"], (0, 0))
            self._digits[first["symbol"]] = (max(told[0], price), max(told[1], size))

    def _frame(self, message: Any, handle: Callable[[Any], None]) -> None:
        if self._ended.done():
            return
        if message.type.value in (1, 2):
            self._link.last_frame_ns = self._tools.clock_ns()
            self._link.frames += 1
            self._text = message.data
        self._is_inside = True
        try:
            handle(message)
        except Exception as error:
            self._failed(error, "")
        finally:
            self._is_inside = False
        self._flush()

    def _note(self, result: Any) -> None:
        if isinstance(result, dict) and "bids" in result and result.get("symbol") in self._by_name:
            self._touched[result["symbol"]] = result
            if not self._is_inside:
                # a REST snapshot joined the stream outside any frame
                asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Copy what changed into our books; an error here is a bug of ours and ends the connection with it."""
        touched, self._touched = self._touched, {}
        try:
            for name, order_book in touched.items():
                if not self._ended.done():
                    self._copy(self._by_name[name], order_book)
        except Exception as error:
            self._fail(error)

    def _copy(self, book: Book, order_book: Any) -> None:
        bids, asks = list.__getitem__(order_book["bids"], slice(DEPTH)), list.__getitem__(order_book["asks"], slice(DEPTH))
        if self._crc is not None and not self._checks(bids, asks):
            self.break_off(Fault(FaultReason.CHECKSUM, book.symbol, "crc32 of the ten best levels differs"))
            return
        bids.reverse()
        asks.reverse()
        book.bid_keys[:] = [level[0] for level in bids]
        book.bid_sizes[:] = [level[1] for level in bids]
        book.ask_keys[:] = [-level[0] for level in asks]
        book.ask_sizes[:] = [level[1] for level in asks]
        book.sequence = order_book.get("nonce")
        book.ts_event_ms = None if book.venue in NO_EVENT_TIME else order_book.get("timestamp")
        book.ts_ingest_ns = self._link.last_frame_ns
        book.n_updates += 1
        book.state = BookState.LIVE
        if self._crc is not None:
            book.checksum_ok, self._crc = True, None
        self._board.changed(book)

    def _checks(self, bids: Sequence[Any], asks: Sequence[Any]) -> bool:
        assert self._crc is not None
        name, told = self._crc
        return kraken_checksum(bids, asks, *self._digits[name]) == told

    # ---- ends

    def _failed(self, error: Any, hint: str) -> None:
        reason = reason_of(type(error).__name__, self._link.venue)
        symbol = next((b.symbol for name, b in self._by_name.items() if name in hint), None)
        fault = Fault(reason, symbol, f"{type(error).__name__}: {str(error)[:160]}")
        if reason is FaultReason.REFUSED and symbol is not None:
            if not self._shard.refuse(fault):
                self._end(Ended(reason.value, fault))
            return
        self.break_off(fault)

    def _end(self, ended: Ended) -> None:
        if not self._ended.done():
            self._ended.set_result(ended)
            self._board.withdraw(self._link, ended.fault)

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"feed:{self._link.venue}#{self._link.name}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._exchange is not None:
            try:
                await asyncio.wait_for(self._exchange.close(), timeout=5.0)
            except (*NETWORK_ERRORS, RuntimeError):
                return


def ccxt_dial(venue: str, limits: FeedLimits, base_url: str | None) -> Dial:
    """Makes connections of the ccxt feed; base_url: the stand-in's address, None for the real venue."""
    source = Source(venue, base_url)

    def dial(shard: Shard, symbols: Sequence[str]) -> Connection:
        return CcxtConnection(shard, source, symbols, limits)

    return dial
