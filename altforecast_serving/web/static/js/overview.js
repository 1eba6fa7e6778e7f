// The overview page: report lines, regime, divergences, streams. Reads only the REST API.
// What belongs here: this page. What does not: formatting shared with other pages.

import { get, lineageText, showHealth, showNotice } from "./api.js";
import { compact, element, evidenceCells, fill, percent, row, showZone, time, words } from "./format.js";

const REFRESH_MS = 15000;
const GLYPHS = { up: "↑", down: "↓", flat: "→", unknown: "?" };
const STREAM_WORDS = { on_time: "on time", repaired: "repaired from an exchange", late: "late", missing: "missing", flagged: "cannot be repaired", never_seen: "no alert yet" };
const byId = (id) => document.getElementById(id);

function arrowCell(line, span) {
  const change = line.changes.find((c) => c.over === span);
  const arrow = change?.arrow ?? "unknown";
  const cell = element("td", "", `arrow ${arrow}`);
  cell.append(element("b", GLYPHS[arrow]), percent(change?.change_pct));
  return cell;
}

function showReport({ data, lineage }) {
  const lines = data?.lines ?? [];
  const rows = lines.map((line) => {
    const link = element("a", line.metric);
    link.href = `/market?metric=${encodeURIComponent(line.metric)}&timeframe=1h`;
    return row([element("td", link), ...["15m", "1h", "4h", "24h"].map((span) => arrowCell(line, span)), element("td", line.line, "line muted")]);
  });
  fill(byId("report"), rows, "No report yet: bars of the six metrics are needed.");
  byId("report-lead").textContent = data?.known_at ? `As of ${time(data.known_at)}` : "";
  lineageText(byId("report-lineage"), lineage);
}

function gauge(score) {
  const place = (value) => 10 + ((Math.max(-2, Math.min(2, value)) + 2) / 4) * 280;
  const marks = [-0.75, -0.25, 0.25, 0.75].map((v) => `<line x1="${place(v)}" x2="${place(v)}" y1="14" y2="30" stroke="#ffffff44"/>`).join("");
  const needle = score === null ? "" : `<circle cx="${place(score)}" cy="22" r="7" fill="#e6edf3" stroke="#0b1219" stroke-width="2"/>`;
  return `<svg class="gauge" viewBox="0 0 300 46" role="img" aria-label="score ${score === null ? "unknown" : score.toFixed(2)} between -2 and 2">
    <defs><linearGradient id="risk"><stop offset="0" stop-color="#e5636b"/><stop offset=".5" stop-color="#39495a"/><stop offset="1" stop-color="#3fb68b"/></linearGradient></defs>
    <rect x="10" y="18" width="280" height="8" rx="4" fill="url(#risk)"/>${marks}${needle}
    <text x="10" y="44" fill="#93a4b5" font-size="11">Risk-OFF</text><text x="290" y="44" fill="#93a4b5" font-size="11" text-anchor="end">Risk-ON</text></svg>`;
}

function contributionBars(regime) {
  const grid = element("div", "", "bars");
  const names = { total3: "TOTAL3", total2: "TOTAL2", btc_d: "BTC.D", usdt_d: "USDT.D", ethbtc: "ETHBTC" };
  for (const [key, name] of Object.entries(names)) {
    const value = regime.contributions.find((c) => c.metric === key)?.contribution;
    const track = element("div", "", "track");
    if (value !== null && value !== undefined) {
      const fillElement = element("div", "", `fill ${value >= 0 ? "up" : "down"}`);
      const share = Math.min(50, Math.abs(value) * 50);
      fillElement.style.width = `${share}%`;
      fillElement.style.left = `${value >= 0 ? 50 : 50 - share}%`;
      track.append(fillElement);
    }
    grid.append(element("span", name), track, element("span", value === null || value === undefined ? "?" : value.toFixed(2)));
  }
  return grid;
}

function showRegime({ data, lineage }) {
  const latest = data.latest;
  const box = byId("regime");
  box.replaceChildren();
  if (!latest) {
    box.append(element("p", "Unknown: TOTAL2, TOTAL3, BTC.D, USDT.D and ETHBTC bars of 30 days are needed.", "muted"));
    return;
  }
  const state = element("p", { risk_on: "Risk-ON", risk_off: "Risk-OFF", neutral: "Neutral" }[latest.state], "regime-state");
  state.dataset.state = latest.state;
  box.append(state);
  const holder = element("div");
  holder.innerHTML = gauge(latest.score);
  box.append(holder, contributionBars(latest));
  const note = latest.is_degraded ? `Degraded: ${latest.missing.join(", ") || "an input"} missing or stale.` : "All five inputs are fresh.";
  box.append(element("p", `Score ${latest.score === null ? "unknown" : latest.score.toFixed(2)}, ${time(latest.known_at)}. ${note} Regimes tell risk, not direction.`, "muted"));
  lineageText(byId("regime-lineage"), lineage);
}

function showDivergences({ data, lineage }) {
  const rows = data.map((event) => {
    const link = element("a", `${event.metric ?? event.symbol} ${event.timeframe}`);
    link.href = `/market?metric=${encodeURIComponent(event.metric ?? event.symbol)}&timeframe=${event.timeframe}`;
    const tone = event.kind.endsWith("bullish") ? "up" : "down";
    return row([element("td", link), element("td", words(event.kind), tone), words(event.oscillator), time(event.known_at), ...evidenceCells(event.evidence)]);
  });
  fill(byId("divergences"), rows, "None active.");
  lineageText(byId("divergences-lineage"), lineage);
}

function showStreams({ data }) {
  const { streams } = data;
  const timeframes = [...new Set(streams.map((s) => s.timeframe))];
  const metrics = [...new Set(streams.map((s) => s.metric))];
  byId("streams").tHead.replaceChildren(row([element("th", ""), ...timeframes.map((t) => element("th", t))]));
  const rows = metrics.map((metric) => row([metric, ...timeframes.map((timeframe) => {
    const stream = streams.find((s) => s.metric === metric && s.timeframe === timeframe);
    const dot = element("span", "", `dot ${stream?.state ?? "never_seen"}`);
    dot.title = `${metric} ${timeframe}: ${STREAM_WORDS[stream?.state] ?? "unknown"}, last bar ${time(stream?.newest_ts)}`;
    dot.setAttribute("role", "img");
    dot.setAttribute("aria-label", dot.title);
    return element("td", dot);
  })]));
  fill(byId("streams"), rows, "No streams are expected.");
  const seen = new Set(streams.map((s) => s.state));
  byId("streams-legend").replaceChildren(...Object.entries(STREAM_WORDS).filter(([s]) => seen.has(s)).map(([status, text]) => {
    const item = element("li", "");
    item.append(element("span", "", `dot ${status}`), ` ${text}`);
    return item;
  }));
}

function showTiles({ data }) {
  const tiles = [[data.metrics.length, "metrics with bars"], [data.n_series, "series"], [data.timeframes.length, "timeframes"], [data.n_bars, "bars"], [data.n_provisional_bars, "provisional bars"], [data.n_active_divergences, "active divergences"]];
  byId("tiles").replaceChildren(...tiles.map(([value, text]) => {
    const tile = element("div", "", "tile");
    tile.append(element("b", typeof value === "number" && value > 99999 ? compact(value) : String(value ?? "–")), element("span", text));
    return tile;
  }));
}

async function refresh() {
  const parts = [["/api/stats", {}, showTiles], ["/api/report", {}, showReport], ["/api/regime", {}, showRegime], ["/api/divergences", { status: "active", limit: 12 }, showDivergences], ["/api/streams", {}, showStreams]];
  const notices = await Promise.all(parts.map(async ([path, parameters, show]) => {
    try {
      const answer = await get(path, parameters);
      show(answer);
      return answer.warnings ?? [];
    } catch (error) {
      return [error.message];
    }
  }));
  showNotice(notices.flat().slice(0, 2));
  document.body.dataset.loaded = "true";
}

showZone();
showHealth();
await refresh();
setInterval(() => { if (!document.hidden) { refresh(); showHealth(); } }, REFRESH_MS);
