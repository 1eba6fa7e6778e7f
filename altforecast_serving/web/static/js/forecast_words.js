// How forecasts, scores and models are put into words and cells on every page that shows them.
// What belongs here: words and cells. What does not: requests, pictures (plots.js).

import { element, percent, price } from "./format.js";

export const HORIZONS = ["15m", "1h", "4h", "24h"];
export const NAMES = { champion: "champion", challenger: "challenger", har: "baseline HAR-S", climatology: "climatology" };
const EVENTS = { promoted: "up", forced: "warm", rolled_back: "down", rejected: "down", challenger: "active", registered: "", trained: "" };

export const known = (value) => value !== null && value !== undefined;
export const share = (value, digits = 1) => (known(value) ? `${(100 * value).toFixed(digits)} %` : "–");
export const skillText = (value) => percent(known(value) ? Math.round(1e4 * value) / 100 + 0 : null, 2);
export const number = (text, className = "") => element("td", text, `number ${className}`.trim());
export const tone = (value) => (!known(value) || value === 0 ? "muted" : value > 0 ? "up" : "down");
export const skillCell = (value, className = "") => number(skillText(value), `${tone(value)} ${className}`);
export const covered = (at80, at95) => (known(at80) ? `${(100 * at80).toFixed(1)} / ${known(at95) ? (100 * at95).toFixed(1) : "–"} %` : "–");
export const at = (quantiles, level) => quantiles.find((q) => Math.abs(q.level - level) < 1e-6);

/** Half the width of an interval as a share of the price. */
export function widthText(low, high, from) {
  return known(low) && known(high) && from ? `±${((50 * (high - low)) / from).toFixed(2)} %` : "–";
}

export const intervalText = (low, high) => (known(low) && known(high) ? `${price(low)} to ${price(high)}` : "–");

/** The version as people tell them apart: a link to its card. */
export function modelLink(version, text = version) {
  const link = element("a", text);
  link.href = `/models/${encodeURIComponent(version)}`;
  link.title = version;
  return link;
}

/** Who said it; the note tells why a baseline answers. */
export function saidBy(forecaster, version, note) {
  const link = modelLink(version, NAMES[forecaster] ?? forecaster);
  if (note) link.title = `${note} (${version})`;
  return link;
}

/** Legend of two lines of skill. */
export function skillLegend(text) {
  return [element("span", "● over HAR-S", "first"), " ", element("span", "● over climatology", "second"), ` ${text}; above the dashed line it was better.`];
}

/** Direction as the API names it; "no directional edge" stays soft. */
export function directionTag(word) {
  return element("span", word, word === "up" || word === "down" ? `tag ${word}` : "tag muted");
}

export function forecastPath(symbol, exchange) {
  return `/forecasts/${encodeURIComponent(symbol)}?${new URLSearchParams({ exchange })}`;
}

export function eventTag(name) {
  return element("span", name.replaceAll("_", " "), `tag ${EVENTS[name] ?? ""}`.trim());
}

const LENGTHS = { "15m": 900_000, "1h": 3_600_000 };
const barClose = (h) => Date.parse(h.ts) + (LENGTHS[h.timeframe] ?? 0);

/** Points of a fan for plots and chart, from the moment it was made; horizons that are over or have no quantiles are left out. */
export function fanPoints(horizons, now) {
  const usable = horizons.filter((h) => h.quantiles.length && Date.parse(h.target_ts) > now).sort((a, b) => Date.parse(a.target_ts) - Date.parse(b.target_ts));
  if (!usable.length) return { points: [], used: [] };
  const latest = usable.reduce((a, b) => (barClose(b) > barClose(a) ? b : a));
  const start = { t: Math.min(Date.parse(usable[0].target_ts) - 1, barClose(latest)), prices: {} };
  for (const q of latest.quantiles) start.prices[q.level] = latest.price;
  const points = usable.map((h) => ({ t: Date.parse(h.target_ts), prices: Object.fromEntries(h.quantiles.map((q) => [q.level, q.price])) }));
  return { points: [start, ...points], used: usable };
}

/** Facts as a definition list; values may be text or elements. */
export function facts(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => known(value) && value !== "").flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  return list;
}
