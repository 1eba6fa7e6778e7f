// The arbitrage page: open opportunities over a WebSocket (or by asking again and again), venues, spreads, what closed.
// What belongs here: this page. What does not: the socket (live.js), pictures (drawing.js).

import { get, lineageText, showHealth, showNotice } from "./api.js";
import { curve, heat } from "./drawing.js";
import { element, fill, percent, price, row, showZone, time, words } from "./format.js";
import { follow } from "./live.js";

const SHOWN = 40;
const CLOSED_SHOWN = 30;
const POLL_MS = 3000;
const RISKS = {
  transfer_cost_unknown: ["cost assumed", "No withdrawal cost is known: the assumed one was used."],
  transfer_stale: ["old terms", "The withdrawal terms are older than allowed."],
  withdrawal_closed: ["no withdrawal", "The buying venue does not let this coin out."],
  deposit_closed: ["no deposit", "The selling venue does not take this coin in."],
  asset_unmatched: ["other coin?", "Not proven that both venues mean the same coin."],
  converted_quote: ["other dollar", "The books are quoted in different dollars; the conversion is in the price."],
  edge_too_good: ["too good", "Above the sanity limit: most likely not real."],
  thin: ["thin", "The size takes the last known level of a book."],
  event_time_lag: ["late", "A book's own time lags behind its usual delay."],
};
const byId = (id) => document.getElementById(id);
const open = new Map();
let ended = [];
let chosen = "";
let isDrawing = false;
let feed = "connecting";
let notes = {};
let liveVenues = null;

const number = (text, className = "") => element("td", text, `number ${className}`);
const money = (value) => (value === null || value === undefined ? "–" : `${value.toLocaleString("en-US", { maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0 })}`);
const span = (ms) => (ms === null || ms === undefined ? "–" : ms < 1000 ? `${Math.round(ms)} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : ms < 3600000 ? `${(ms / 60000).toFixed(1)} min` : `${(ms / 3600000).toFixed(1)} h`);
const where = (one) => (one.type === "triangular" ? one.buy_exchange : `${one.buy_exchange} → ${one.sell_exchange}`);
const list = (value) => (typeof value === "string" ? value.split(",").filter(Boolean) : value ?? []);
const points = (value) => (typeof value === "string" ? JSON.parse(value || "[]") : value ?? []);

function shaped(event) {
  return { ...event, risk_flags: list(event.risk_flags), edge_curve: points(event.edge_curve) };
}

function say(part, message) {
  notes = { ...notes, [part]: message };
  showNotice(Object.values(notes));
}

function setFeed(state, text) {
  feed = state;
  const line = byId("feed");
  line.dataset.state = state;
  line.textContent = text;
  document.body.dataset.feed = state;
}

function riskTags(flags) {
  const box = element("div", "", "risks");
  for (const flag of flags) {
    const tag = element("span", RISKS[flag]?.[0] ?? words(flag), "tag risk");
    tag.title = RISKS[flag]?.[1] ?? words(flag);
    box.append(tag);
  }
  return element("td", flags.length ? box : element("span", "none known", "muted"));
}

function openRow(one, now) {
  const best = one.optimal_profit_usdt;
  const made = row([
    element("td", one.symbol), element("td", where(one)), number(percent(one.net_edge_pct), one.net_edge_pct > 0 ? "up" : "down"),
    number(money(one.expected_profit_usdt), "narrow-hide"), number(money(best), best > 0 ? "up" : ""), number(span(now - new Date(one.opened_at))),
    number(one.capture_chance === null || one.capture_chance === undefined ? "not known" : `${Math.round(one.capture_chance * 100)} %`, "narrow-hide"), riskTags(one.risk_flags),
  ]);
  made.dataset.id = one.id;
  made.tabIndex = 0;
  made.setAttribute("aria-selected", String(one.id === chosen));
  return made;
}

function emptyText() {
  if (feed === "silent") return "No realtime process writes: what is open is not known.";
  if (feed === "lost") return "Disconnected: what is open is not known.";
  if (feed === "connecting") return "Connecting…";
  if (liveVenues === 0) return "None open now: no venue is live.";
  return "None open now. Opportunities are rare: most books differ by less than the fees.";
}

function draw() {
  isDrawing = false;
  const now = Date.now();
  const rows = [...open.values()].sort((a, b) => b.net_edge_pct - a.net_edge_pct);
  if (!open.has(chosen)) chosen = rows[0]?.id ?? "";
  const focused = document.activeElement?.dataset?.id;
  fill(byId("open"), rows.slice(0, SHOWN).map((one) => openRow(one, now)), emptyText());
  if (focused) byId("open").querySelector(`tr[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  byId("open-more").textContent = rows.length > SHOWN ? `and ${rows.length - SHOWN} more` : "";
  drawCurve(open.get(chosen));
}

function drawSoon() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(draw);
}

function drawCurve(one) {
  const box = byId("curve");
  if (!one) {
    box.replaceChildren(element("p", "Choose an opportunity to see how its edge shrinks with size.", "muted"));
    return;
  }
  const notional = one.optimal_qty && one.buy_vwap ? one.optimal_qty * one.buy_vwap : null;
  const facts = element("dl", "", "facts");
  const known = [
    ["Buy at", `${one.buy_exchange}, ${price(one.buy_vwap)}`], ["Sell at", `${one.sell_exchange}, ${price(one.sell_vwap)}`],
    ["Costs", `fees ${percent(one.fees_pct)}, buffer ${percent(one.slippage_pct)}, transfer ${percent(one.withdraw_pct)}`],
    ["Best size", `${price(one.optimal_qty)}, profit ${money(one.optimal_profit_usdt)} USDT`], ["Peak", percent(one.peak_edge_pct)],
    ["Risks", one.risk_flags.map((flag) => RISKS[flag]?.[1] ?? words(flag)).join(" ") || "none known"],
  ];
  for (const [name, value] of known) facts.append(element("dt", name), element("dd", value));
  const head = element("p", `${one.symbol}, ${where(one)}`, "lead");
  box.replaceChildren(head, one.edge_curve.length ? curve(one.edge_curve, notional) : element("p", "No curve was measured.", "muted"), facts);
}

function take(message) {
  if (message.type === "snapshot") {
    open.clear();
    for (const one of message.open) open.set(one.id, shaped(one));
  }
  for (const event of message.events ?? []) apply(shaped(event));
  if (message.dropped) say("dropped", `${message.dropped} events were missed: this page could not keep up`);
  if (message.is_fed === false) {
    open.clear();
    setFeed("silent", "no realtime process writes");
  } else {
    setFeed("live", "live");
  }
  drawSoon();
}

function apply(event) {
  if (event.event === "closed") {
    open.delete(event.id);
    ended = [{ ...event, closed_at: event.ts, lifetime_ms: new Date(event.ts) - new Date(event.opened_at) }, ...ended].slice(0, CLOSED_SHOWN);
    drawClosed();
  } else if (!event.reason) {
    open.set(event.id, event);
  }
}

async function poll() {
  if (feed === "live" || document.hidden) return;
  try {
    const { data, warnings } = await get("/api/arbitrage/opportunities", { limit: 200 });
    open.clear();
    for (const one of data) open.set(one.id, shaped(one));
    say("open", warnings[0]);
    if (feed !== "silent" || !warnings.length) setFeed(warnings.length ? "silent" : "polling", warnings.length ? "no realtime process writes" : `no live connection; asked every ${POLL_MS / 1000} s`);
  } catch (error) {
    open.clear();
    setFeed("lost", "disconnected");
    say("open", error.message);
  }
  drawSoon();
}

let stored = [];
function drawClosed() {
  const seen = new Set(ended.map((one) => one.id));
  const rows = [...ended, ...stored.filter((one) => !seen.has(one.id))].slice(0, CLOSED_SHOWN).map((one) => {
    const made = row([one.symbol, where(one), number(percent(one.peak_edge_pct), one.peak_edge_pct > 0 ? "up" : ""), number(span(one.lifetime_ms)), element("td", words(one.reason ?? ""), "muted")]);
    made.title = `closed ${time(one.closed_at)}`;
    return made;
  });
  fill(byId("closed"), rows, "None closed yet.");
}

function venueTile(venue) {
  const tile = element("article", "", "venue");
  tile.dataset.state = venue.state;
  tile.append(element("span", words(venue.state), "state"), element("b", venue.venue));
  const facts = element("dl");
  const reconnects = Object.entries(venue.reconnects);
  const known = [
    ["books", `${venue.n_live} of ${venue.n_symbols}`], ["messages", venue.messages_per_s === null ? "–" : `${venue.messages_per_s.toFixed(1)}/s`],
    ["lag", span(venue.lag_ms)], ["age", span(venue.age_ms)], ["reconnects", String(reconnects.reduce((sum, [, n]) => sum + n, 0))],
  ];
  for (const [name, value] of known) facts.append(element("dt", name), element("dd", value));
  tile.append(facts);
  tile.title = [`${venue.feed} feed`, ...reconnects.map(([reason, n]) => `${words(reason)}: ${n}`)].join("; ");
  const fault = venue.last_fault;
  if (fault) tile.append(element("p", `${words(fault.reason)}${fault.symbol ? ` ${fault.symbol}` : ""}, ${time(fault.at)}`));
  else if (venue.note) tile.append(element("p", venue.note.slice(0, 120)));
  return tile;
}

function showVenues({ data, warnings }) {
  const live = data.filter((venue) => venue.state === "live").length;
  liveVenues = live;
  byId("venues-lead").textContent = data.length ? `${live} of ${data.length} live` : "";
  byId("venues-lead").dataset.state = data.length ? (live === data.length ? "live" : "polling") : "silent";
  byId("venues").replaceChildren(...(data.length ? data.map(venueTile) : [element("p", warnings[0] ?? "No venue is configured.", "muted")]));
}

function loseVenues(message) {
  liveVenues = null;
  byId("venues-lead").textContent = "not known";
  byId("venues-lead").dataset.state = "lost";
  byId("venues").replaceChildren(element("p", message, "muted"));
}

function loseSpreads(message) {
  fill(byId("spreads"), [], message);
  byId("spreads-at").textContent = "";
}

function showSpreads({ data, warnings }) {
  const select = byId("symbol");
  const symbols = data?.symbols ?? [];
  if ([...select.options].map((o) => o.value).join() !== symbols.join()) select.replaceChildren(...symbols.map((name) => new Option(name, name)));
  if (data?.symbol) select.value = data.symbol;
  const venues = data?.venues ?? [];
  byId("spreads").tHead.replaceChildren(...(venues.length ? [row([element("th", ""), ...venues.map((venue) => element("th", venue))])] : []));
  const edges = new Map((data?.edges ?? []).map((edge) => [`${edge.buy_exchange} ${edge.sell_exchange}`, edge.net_edge_pct]));
  const strongest = Math.max(0.05, ...[...edges.values()].map((edge) => Math.abs(edge ?? 0)).filter((edge) => edge < 50));
  const rows = venues.map((buy) => {
    const made = document.createElement("tr");
    made.append(element("th", buy), ...venues.map((sell) => {
      if (buy === sell) return element("td", "", "self");
      const edge = edges.get(`${buy} ${sell}`);
      const isKnown = edge !== null && edge !== undefined && edge > -50;
      const cell = element("td", isKnown ? edge.toFixed(2) : "–", isKnown ? "" : "muted");
      if (isKnown) cell.style.background = heat(edge, strongest);
      cell.title = `buy on ${buy}, sell on ${sell}: ${isKnown ? percent(edge, 3) : "not known, or too thin"}`;
      return cell;
    }));
    return made;
  });
  fill(byId("spreads"), rows, warnings[0] ?? "No two live books of one market yet.");
  byId("spreads-at").textContent = data?.ts ? `coherent cut of ${time(data.ts)}; percent at the fixed size, all costs taken off` : "";
}

async function ask(part, path, parameters, show, lose = () => {}) {
  try {
    const answer = await get(path, parameters);
    show(answer);
    say(part, "");
  } catch (error) {
    say(part, error.message);
    lose("Disconnected: what was shown here is no longer known.");
  }
}

const refreshVenues = () => ask("venues", "/api/venues", {}, showVenues, loseVenues);
const refreshSpreads = () => ask("spreads", "/api/arbitrage/spreads", { symbol: byId("symbol").value }, showSpreads, loseSpreads);
const refreshClosed = () => ask("closed", "/api/arbitrage/opportunities", { status: "closed", limit: CLOSED_SHOWN }, ({ data, lineage }) => {
  stored = data;
  lineageText(byId("closed-lineage"), lineage);
  drawClosed();
});
const unlessHidden = (work) => () => { if (!document.hidden) work(); };

function choose(target) {
  const id = target.closest("tr")?.dataset.id;
  if (!id) return;
  chosen = id;
  drawSoon();
}

showZone();
showHealth();
byId("open").tBodies[0].addEventListener("click", ({ target }) => choose(target));
byId("open").tBodies[0].addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(event.target); } });
byId("symbol").addEventListener("change", refreshSpreads);
await Promise.all([refreshVenues(), refreshSpreads(), refreshClosed(), poll()]);
follow("/ws/opportunities", { onMessage: take, onState: () => { if (feed === "live") setFeed("lost", "disconnected"); poll(); } });
document.body.dataset.loaded = "true";
setInterval(poll, POLL_MS);
setInterval(unlessHidden(refreshVenues), 2000);
setInterval(unlessHidden(refreshSpreads), 5000);
setInterval(unlessHidden(refreshClosed), 15000);
setInterval(unlessHidden(showHealth), 15000);
setInterval(unlessHidden(drawSoon), 1000);
