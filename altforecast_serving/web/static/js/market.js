// The market page: one series with its signals as chart or table. Reads only the REST API.
// What belongs here: this page. What does not: drawing (chart.js), formatting (format.js).

import { Ahead } from "./ahead.js";
import { get, lineageText, showHealth, showNotice } from "./api.js";
import { PriceChart } from "./chart.js";
import { compact, element, evidenceCells, fill, percent, price, row, showZone, time, words } from "./format.js";

const REFRESH_MS = 15000;
const NEAREST_LEVELS = 8;
const METRICS = ["BTC", "ETHBTC", "TOTAL2", "TOTAL3", "BTC.D", "USDT.D"];
const byId = (id) => document.getElementById(id);
const chart = new PriceChart(byId("chart"), document.body.dataset.zone || "UTC");
const ahead = new Ahead(chart, byId("ahead"));
let choices = [];
let asked = 0;
let unknown = null;

function seriesPath(choice, noun) {
  return `/api/${noun}/${encodeURIComponent(choice.name)}/${byId("timeframe").value}`;
}

function fillMarkets(symbols) {
  const series = symbols.map((s) => ({ name: s.metric ?? s.symbol, exchange: s.metric ? null : s.exchange, label: s.metric ? s.metric : `${s.symbol} (${s.exchange})`, timeframes: s.timeframes.map((t) => t.timeframe), isMetric: Boolean(s.metric) }));
  const missing = METRICS.filter((m) => !series.some((s) => s.name === m)).map((name) => ({ name, exchange: null, label: name, timeframes: ["15m", "1h", "4h", "1d"], isMetric: true }));
  choices = [...series, ...missing].sort((a, b) => b.isMetric - a.isMetric || (a.isMetric ? METRICS.indexOf(a.name) - METRICS.indexOf(b.name) : a.label.localeCompare(b.label)));
  byId("metric").replaceChildren(...choices.map((choice, i) => { const option = element("option", choice.label); option.value = String(i); return option; }));
  const wanted = new URLSearchParams(location.search);
  const index = choices.findIndex((c) => c.name === (wanted.get("metric") ?? "BTC") && (!wanted.get("exchange") || c.exchange === wanted.get("exchange")));
  byId("metric").value = String(Math.max(0, index));
  if (index < 0) unknown = `There is no series ${wanted.get("metric")} here; showing ${choices[0].label}.`;
  fillTimeframes(wanted.get("timeframe") ?? "1h");
  if (wanted.get("limit") && [...byId("limit").options].some((o) => o.value === wanted.get("limit"))) byId("limit").value = wanted.get("limit");
}

function fillTimeframes(preferred) {
  const offered = chosen().timeframes;
  byId("timeframe").replaceChildren(...offered.map((t) => element("option", t)));
  byId("timeframe").value = offered.includes(preferred) ? preferred : offered[0];
}

const chosen = () => choices[Number(byId("metric").value)];

function showTable(bars) {
  const rows = bars.toReversed().map((b) => {
    const quality = element("span", b.quality, b.quality === "provisional" ? "tag provisional" : "muted");
    return row([time(b.ts), ...[b.open, b.high, b.low, b.close].map((v) => element("td", price(v), "number")), element("td", compact(b.volume), "number"), element("td", quality), element("td", b.source ?? "", "muted")]);
  });
  fill(byId("bars"), rows, "No bars.");
}

function showQuote(bars) {
  const quote = byId("quote");
  quote.replaceChildren();
  if (!bars.length) return;
  const last = bars.at(-1);
  const before = bars.at(-2) ?? last;
  const change = (100 * (last.close - before.close)) / before.close;
  quote.append(element("strong", chosen().label), element("span", price(last.close)), element("span", percent(change), change > 0 ? "up" : change < 0 ? "down" : "flat"), element("span", time(last.ts), "muted"));
  if (last.quality === "provisional") quote.append(element("span", "provisional", "tag provisional"));
}

function showSignals(events) {
  const rows = events.map((e) => row([time(e.known_at), element("td", words(e.kind), e.kind.endsWith("bullish") ? "up" : "down"), words(e.oscillator), element("td", element("span", e.status, `tag ${e.status}`)), ...evidenceCells(e.evidence)]));
  fill(byId("signals"), rows, "None in this range.");
}

function nearest(levels) {
  return levels.toSorted((a, b) => Math.abs(a.distance_atr) - Math.abs(b.distance_atr)).slice(0, NEAREST_LEVELS).sort((a, b) => b.price - a.price);
}

function showLevels(answer) {
  const levels = nearest(answer.data);
  fill(byId("levels"), levels.map((l) => row([element("td", price(l.price), "number"), element("td", l.side, l.side === "support" ? "up" : "down"), `${l.distance_atr.toFixed(1)} ATR`, String(l.n_touches), l.strength.toFixed(2)])), "None.");
  const evidence = answer.data[0]?.evidence;
  byId("levels-evidence").textContent = evidence?.hit_frac ? `Bounces ${(100 * evidence.hit_frac).toFixed(1)} %, at shifted placebo levels ${(100 * evidence.base_frac).toFixed(1)} % (n ${evidence.n}): ${evidence.verdict}.` : "Levels are orientation, not prediction.";
  return levels;
}

async function load() {
  const mine = ++asked;
  const choice = chosen();
  const limit = byId("limit").value;
  const common = { exchange: choice.exchange, limit };
  const divergenceQuery = { metric: choice.name, exchange: choice.exchange, timeframe: byId("timeframe").value, limit: 60 };
  try {
    const [bars, indicators, divergences, levels, forecast] = await Promise.all([
      get(seriesPath(choice, "bars"), common), get(seriesPath(choice, "indicators"), common),
      get("/api/divergences", divergenceQuery), get(seriesPath(choice, "levels"), { exchange: choice.exchange }),
      ahead.load(choice.name, choice.exchange)]);
    if (mine !== asked) return;
    showBarsEverywhere(bars, indicators, divergences, levels);
    ahead.show(forecast, oldestFirst(bars.data), byId("show-forecast").checked);
    showNotice([unknown, ...(bars.warnings ?? [])].slice(0, 3));
  } catch (error) {
    if (mine === asked) showNotice([error.message]);
  }
  remember(choice, limit);
  document.body.dataset.loaded = String(mine);
}

const oldestFirst = (rows) => rows.toSorted((a, b) => a.ts.localeCompare(b.ts));

function showBarsEverywhere(bars, indicators, divergences, levels) {
  const rows = oldestFirst(bars.data);
  chart.showBars(rows);
  chart.showIndicators(oldestFirst(indicators.data).filter((r) => rows.length && r.ts >= rows[0].ts), byId("show-averages").checked);
  const events = rows.length ? divergences.data.filter((e) => e.p1_ts >= rows[0].ts) : [];
  chart.showDivergences(byId("show-divergences").checked ? events : [], rows[0]?.ts);
  const near = showLevels(levels);
  chart.showLevels(byId("show-levels").checked ? near : []);
  showTable(rows);
  showQuote(rows);
  showSignals(events);
  lineageText(byId("bars-lineage"), bars.lineage);
}

function remember(choice, limit) {
  const query = new URLSearchParams({ metric: choice.name, timeframe: byId("timeframe").value, limit });
  if (choice.exchange) query.set("exchange", choice.exchange);
  history.replaceState(null, "", `?${query}`);
  const base = `${seriesPath(choice, "bars")}?limit=${limit}${choice.exchange ? `&exchange=${choice.exchange}` : ""}`;
  byId("csv").href = `${base}&format=csv`;
  byId("arrow").href = `${base}&format=arrow`;
}

function selectView(name) {
  for (const view of ["chart", "table"]) {
    byId(`${view}-panel`).hidden = view !== name;
    byId(`view-${view}`).setAttribute("aria-selected", String(view === name));
  }
}

showZone();
showHealth();
try {
  fillMarkets((await get("/api/symbols")).data);
  await load();
} catch (error) {
  showNotice([error.message]);
  document.body.dataset.loaded = "failed";
}
byId("metric").addEventListener("change", () => { unknown = null; fillTimeframes(byId("timeframe").value); load(); });
for (const id of ["timeframe", "limit", "show-forecast", "show-divergences", "show-levels", "show-averages"]) byId(id).addEventListener("change", load);
for (const view of ["chart", "table"]) byId(`view-${view}`).addEventListener("click", () => selectView(view));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
setInterval(() => { if (!document.hidden) { load(); showHealth(); } }, REFRESH_MS);
