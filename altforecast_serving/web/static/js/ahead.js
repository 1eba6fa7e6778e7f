// The forecast on the market page: what is asked, drawn over the chart and said in words below it.
// What belongs here: that one layer of the page. What does not: drawing (fan.js), the rest of the page (market.js).

import { get } from "./api.js";
import { Fan } from "./fan.js";
import { directionTag, at, fanPoints, forecastPath, intervalText, known, saidBy, share } from "./forecast_words.js";
import { element, time } from "./format.js";

const isSandbox = document.body.dataset.environment === "sandbox";

export class Ahead {
  constructor(price, box) {
    this.box = box;
    this.fan = new Fan(price.chart, price.candles, price.lib);
    this.used = [];
    this.answer = null;
    price.chart.subscribeCrosshairMove(({ logical }) => this.point(known(logical) ? this.fan.nearest(logical) : null));
  }

  /** The newest forecast of a series; what went wrong, if anything, is kept to be said. */
  async load(name, exchange) {
    try {
      return await get(`/api/forecasts/${encodeURIComponent(name)}`, { exchange });
    } catch (error) {
      return { data: { horizons: [] }, warnings: [error.message] };
    }
  }

  show(answer, bars, isWanted) {
    this.answer = answer;
    const { points, used } = isWanted ? fanPoints(answer.data.horizons, Date.parse(answer.data.price_at ?? bars.at(-1)?.ts ?? 0)) : { points: [], used: [] };
    this.used = used;
    this.pointed = undefined;
    this.fan.show(points, bars);
    this.box.hidden = !isWanted;
    this.box.dataset.horizons = String(used.length);
    this.point(null);
  }

  /** Words for one horizon (index into those drawn), or for the furthest one. */
  point(index) {
    if (index === this.pointed) return;
    this.pointed = index;
    const horizon = this.used[index ?? this.used.length - 1];
    if (horizon) this.say(horizon);
    else this.box.replaceChildren(element("span", this.whyNone(), "muted"));
  }

  whyNone() {
    const { data, warnings } = this.answer;
    if (data.horizons.some((h) => h.quantiles.length)) return "No forecast ahead of the last candle: the newest ones have run out.";
    return `No forecast: ${data.horizons.find((h) => h.reason)?.reason ?? warnings?.[0] ?? "none has been made yet"}`;
  }

  say(h) {
    const link = element("a", "more");
    link.href = forecastPath(this.answer.data.symbol, this.answer.data.exchange);
    const interval = (low, high) => intervalText(at(h.quantiles, low)?.price, at(h.quantiles, high)?.price);
    const parts = [
      element("strong", `${h.horizon} ahead`), element("span", `until ${time(h.target_ts)}`, "muted"),
      element("span", `50 %: ${interval(0.25, 0.75)}`), element("span", `80 %: ${interval(0.1, 0.9)}`), element("span", `95 %: ${interval(0.025, 0.975)}`),
      directionTag(h.direction.word),
    ];
    parts.at(-1).title = h.direction.why;
    if (known(h.p_up)) parts.push(element("span", `P(up) ${share(h.p_up)}`));
    parts.push(saidBy(h.forecaster, h.model, h.note));
    if (h.is_stale) parts.push(element("span", `stale, made ${time(h.made_at)}`, "tag provisional"));
    if (isSandbox) parts.push(element("span", "simulated", "tag provisional"));
    this.box.replaceChildren(...parts, link);
  }
}
