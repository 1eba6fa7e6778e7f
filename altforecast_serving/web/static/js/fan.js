// The fan on the price chart: bands of what is ahead of the last candle, drawn by a primitive of the chart library.
// What belongs here: drawing the fan on lightweight-charts. What does not: requests, words, the SVG fan (plots.js).

import { bent } from "./plots.js";

const BANDS = [[0.025, 0.975, "rgba(79, 209, 181, 0.13)"], [0.1, 0.9, "rgba(79, 209, 181, 0.18)"], [0.25, 0.75, "rgba(79, 209, 181, 0.24)"]];
const MEDIAN = "#4fd1b5";

export class Fan {
  constructor(chart, candles, lib) {
    Object.assign(this, { chart, candles, points: [], curve: [], last: 0, step: 0, n: 0 });
    this.room = chart.addSeries(lib.LineSeries, { lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false });
    candles.attachPrimitive(this);
  }

  attached({ requestUpdate }) { this.requestUpdate = requestUpdate; }

  /** points: as of forecast_words.fanPoints; bars: of the chart, oldest first. No points clear it. */
  show(points, bars) {
    const isDrawn = points.length > 1 && bars.length > 1;
    const opens = bars.map((b) => Math.floor(Date.parse(b.ts) / 1000));
    this.points = isDrawn ? points : [];
    this.curve = isDrawn ? bent(points) : [];
    if (isDrawn) Object.assign(this, { last: opens.at(-1), n: opens.length, step: Math.min(...opens.slice(1).map((t, i) => t - opens[i])) });
    this.room.setData(isDrawn ? this.ahead() : []);
    // fitContent would leave out the empty places right of the last candle.
    if (isDrawn) this.chart.timeScale().setVisibleLogicalRange({ from: -0.5, to: this.n + this.ahead().length - 0.5 });
    this.requestUpdate?.();
  }

  // Empty places on the time scale, so that there is room for the fan: at most a day and a bar of them.
  ahead() {
    const end = this.points.at(-1).t / 1000;
    const found = [];
    for (let t = this.last + this.step; t < end && found.length < 400; t += this.step) found.push({ time: t });
    return found;
  }

  // A candle stands where it opened but shows its close at the end: the moment t belongs to the candle that ends at t.
  x(t) {
    const logical = this.n - 1 + (t / 1000 - this.last - this.step) / this.step;
    const before = Math.floor(logical);
    const [a, b] = [before, before + 1].map((i) => this.chart.timeScale().logicalToCoordinate(i)); // it knows whole bars only
    return a === null || b === null ? null : a + (b - a) * (logical - before);
  }

  /** The horizon nearest to a place of the crosshair, as index into the points after the first; null left of the fan. */
  nearest(logical) {
    if (!this.points.length || logical <= this.n - 1) return null;
    const t = (this.last + this.step + (logical - this.n + 1) * this.step) * 1000;
    const gaps = this.points.slice(1).map((p) => Math.abs(p.t - t));
    return gaps.indexOf(Math.min(...gaps));
  }

  updateAllViews() {}

  autoscaleInfo() {
    if (!this.points.length) return null;
    const prices = this.points.flatMap((p) => [p.prices[0.025], p.prices[0.975]]);
    return { priceRange: { minValue: Math.min(...prices), maxValue: Math.max(...prices) } };
  }

  paneViews() { return [{ renderer: () => ({ draw: (target) => target.useMediaCoordinateSpace(({ context }) => this.draw(context)) }), zOrder: () => "bottom" }]; }

  draw(context) {
    const line = (level) => this.curve.map((p) => [this.x(p.t), this.candles.priceToCoordinate(p.prices[level])]);
    if (!this.curve.length || line(0.5).some(([x, y]) => x === null || y === null)) return;
    for (const [low, high, colour] of BANDS) {
      trace(context, [...line(high), ...line(low).reverse()]);
      context.fillStyle = colour;
      context.fill();
    }
    trace(context, line(0.5));
    context.strokeStyle = MEDIAN;
    context.lineWidth = 1;
    context.stroke();
    context.setLineDash([2, 3]);
    for (const p of this.points.slice(1)) {
      trace(context, [0.025, 0.975].map((level) => [this.x(p.t), this.candles.priceToCoordinate(p.prices[level])]));
      context.stroke();
    }
    context.setLineDash([]);
  }
}

function trace(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
}
