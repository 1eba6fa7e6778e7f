// The price chart: candles, volume, averages, divergence lines and markers, level lines.
// What belongs here: drawing on lightweight-charts. What does not: requests and tables.

const COLOURS = { up: "#3fb68b", down: "#e5636b", provisional: "#f0b45a", fast: "#4a9be0", slow: "#b06fd8", level: "#93a4b5" };
const seconds = (iso) => Math.floor(new Date(iso).getTime() / 1000);

export class PriceChart {
  constructor(holder, zone) {
    const lib = window.LightweightCharts;
    this.lib = lib;
    const label = new Intl.DateTimeFormat("en-GB", { timeZone: zone, day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
    this.chart = lib.createChart(holder, {
      autoSize: true,
      layout: { background: { color: "transparent" }, textColor: "#93a4b5", attributionLogo: true, panes: { separatorColor: "#213040" } },
      grid: { vertLines: { color: "#17232f" }, horzLines: { color: "#17232f" } },
      rightPriceScale: { borderColor: "#213040" },
      timeScale: { borderColor: "#213040", timeVisible: true, secondsVisible: false, tickMarkFormatter: (t) => label.format(new Date(t * 1000)) },
      localization: { timeFormatter: (t) => label.format(new Date(t * 1000)) },
      crosshair: { mode: lib.CrosshairMode.Normal },
    });
    this.candles = this.chart.addSeries(lib.CandlestickSeries, { upColor: COLOURS.up, downColor: COLOURS.down, borderVisible: false, wickUpColor: COLOURS.up, wickDownColor: COLOURS.down });
    this.volume = this.chart.addSeries(lib.HistogramSeries, { priceFormat: { type: "volume" }, priceScaleId: "volume", lastValueVisible: false, priceLineVisible: false });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    this.averages = [COLOURS.fast, COLOURS.slow].map((color) => this.chart.addSeries(lib.LineSeries, { color, lineWidth: 1, lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false }));
    this.rsi = this.chart.addSeries(lib.LineSeries, { color: "#4fd1b5", lineWidth: 1, priceLineVisible: false, title: "RSI 14" }, 1);
    for (const price of [30, 70]) this.rsi.createPriceLine({ price, color: "#39495a", lineWidth: 1, lineStyle: 2, axisLabelVisible: false });
    this.markers = lib.createSeriesMarkers(this.candles, []);
    this.lines = [];
    this.levelLines = [];
    this.chart.panes()[1]?.setHeight(110);
  }

  showBars(bars) {
    this.candles.applyOptions({ priceFormat: { type: "price", ...precision(bars) } });
    this.candles.setData(bars.map((b) => ({ time: seconds(b.ts), open: b.open, high: b.high, low: b.low, close: b.close, ...(b.quality === "provisional" ? { color: COLOURS.provisional, wickColor: COLOURS.provisional } : {}) })));
    this.volume.setData(bars.filter((b) => b.volume !== null).map((b) => ({ time: seconds(b.ts), value: b.volume, color: b.close >= b.open ? "#3fb68b44" : "#e5636b44" })));
    this.chart.timeScale().fitContent();
  }

  showIndicators(rows, averagesVisible) {
    const line = (name) => rows.filter((r) => r[name] !== null).map((r) => ({ time: seconds(r.ts), value: r[name] }));
    this.averages.forEach((series, i) => { series.setData(line(["ema_20", "ema_50"][i])); series.applyOptions({ visible: averagesVisible }); });
    this.rsi.setData(line("rsi_14"));
  }

  showDivergences(events, firstTs) {
    for (const line of this.lines) this.chart.removeSeries(line);
    const inView = events.filter((e) => seconds(e.p1_ts) >= seconds(firstTs));
    this.lines = inView.map((e) => {
      const color = e.kind.endsWith("bullish") ? COLOURS.up : COLOURS.down;
      const line = this.chart.addSeries(this.lib.LineSeries, { color, lineWidth: 2, lineStyle: e.status === "active" ? 0 : 2, lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false, autoscaleInfoProvider: () => null });
      line.setData([{ time: seconds(e.p1_ts), value: e.p1_price }, { time: seconds(e.p2_ts), value: e.p2_price }]);
      return line;
    });
    const isNarrow = this.chart.chartElement().clientWidth < 600; // words would cover the candles
    const marks = inView.map((e) => {
      const bullish = e.kind.endsWith("bullish");
      return { time: seconds(e.p2_ts), position: bullish ? "belowBar" : "aboveBar", shape: bullish ? "arrowUp" : "arrowDown", color: bullish ? COLOURS.up : COLOURS.down, text: isNarrow ? "" : `${e.kind.startsWith("hidden") ? "h " : ""}${e.oscillator}` };
    });
    this.markers.setMarkers(marks.sort((a, b) => a.time - b.time));
  }

  showLevels(levels) {
    for (const line of this.levelLines) this.candles.removePriceLine(line);
    this.levelLines = levels.map((l) => this.candles.createPriceLine({ price: l.price, color: l.side === "support" ? "#3fb68b99" : "#e5636b99", lineWidth: 1, lineStyle: 2, axisLabelVisible: true, title: `${l.n_touches}×` }));
  }
}

function precision(bars) {
  const last = Math.abs(bars.at(-1)?.close ?? 1);
  const digits = last >= 100 ? 2 : last >= 1 ? 4 : 7;
  return { precision: digits, minMove: 10 ** -digits };
}
