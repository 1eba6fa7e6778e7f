// The forecast page of one market: what is ahead, how it was made, calibration, skill, and every past forecast.
// What belongs here: this page. What does not: pictures (plots.js), the track record's table (record.js), shared words.

import { get, isNew, lineageText, showHealth, showNotice } from "./api.js";
import { at, covered, directionTag, facts, fanPoints, forecastPath, HORIZONS, intervalText, known, modelLink, NAMES, number, saidBy, share, skillLegend, skillText, widthText } from "./forecast_words.js";
import { element, fill, price, row, showZone, time } from "./format.js";
import { pitFracs, pitWords, reliabilityBins, reliabilityWords } from "./judged.js";
import { fanPicture, pitHistogram, place, reliability, timeLines } from "./plots.js";
import { Record } from "./record.js";

const REFRESH_MS = 30000;
const ENOUGH_LIVE = 200;
const ORIGIN_WORDS = {
  live: "Live: written down when it was made, never rewritten; what was made after its outcome was known counts nowhere.",
  walk_forward: "Walk forward, not live: made of the past by models that were taught only what came before each test span.",
};
const byId = (id) => document.getElementById(id);
const wanted = new URLSearchParams(location.search);
const symbol = decodeURIComponent(location.pathname.split("/").at(-1));
const isSandbox = document.body.dataset.environment === "sandbox";
const record = new Record(symbol, () => wanted.get("exchange"));
let notes = {};
let asked = 0;
let ahead = null;

function say(part, messages) {
  notes = { ...notes, [part]: messages };
  showNotice(Object.values(notes).flat().slice(0, 3));
}

const day = (ms) => time(new Date(ms).toISOString()).split(",")[0];
const price2 = (value) => (value >= 1000 ? value.toLocaleString("en-US", { maximumFractionDigits: 0 }) : price(value));

function showHead({ data, lineage }) {
  byId("ahead-title").textContent = `${data.metric ?? data.symbol} ahead`;
  document.title = `${data.metric ?? data.symbol} forecast · AltForecast`;
  const chart = element("a", "chart");
  chart.href = `/market?${new URLSearchParams({ metric: data.metric ?? data.symbol, ...(data.metric ? {} : { exchange: data.exchange }), timeframe: "1h" })}`;
  const parts = [element("strong", data.symbol), element("span", data.exchange, "muted"), element("span", price(data.price)), element("span", data.price_at ? `at ${time(data.price_at)}` : "no bars", "muted"), chart];
  if (isSandbox) parts.push(element("span", "simulated", "tag provisional"));
  byId("quote").replaceChildren(...parts);
  lineageText(byId("ahead-lineage"), lineage);
}

function showFan({ data, warnings }) {
  const { points, used } = fanPoints(data.horizons, Date.parse(data.price_at ?? 0));
  byId("fan-legend").hidden = !used.length;
  if (used.length) {
    place(byId("fan"), fanPicture(points, used.map((h) => h.horizon), { format: price2, when: (t) => time(new Date(t).toISOString()) }));
    return;
  }
  const hasSome = data.horizons.some((h) => h.quantiles.length);
  const why = hasSome ? "The newest forecasts have run out: their outcomes are known." : data.horizons.find((h) => h.reason)?.reason ?? warnings?.[0] ?? "No forecast has been made yet.";
  place(byId("fan"), () => element("p", why, "muted"));
}

function horizonRow(h) {
  const q = (level) => at(h.quantiles, level)?.price;
  const cells = [h.is_stale ? staleName(h) : element("td", h.horizon)];
  if (h.quantiles.length) {
    const direction = element("td", directionTag(h.direction.word), "wrap-narrow");
    direction.title = h.direction.why;
    cells.push(element("td", intervalText(q(0.1), q(0.9)), "wrap-narrow"), number(widthText(q(0.1), q(0.9), h.price)), number(share(h.sigma, 2), "narrow-hide"), number(share(h.p_up)), direction, element("td", intervalText(q(0.025), q(0.975)), "narrow-hide"));
  } else {
    const why = element("td", h.reason ?? "not known", "muted wrap");
    why.colSpan = 6;
    cells.push(why);
  }
  const made = row([...cells, element("td", time(h.target_ts), "narrow-hide"), element("td", saidBy(h.forecaster, h.model, h.note), "narrow-hide")]);
  made.tabIndex = 0;
  made.dataset.horizon = h.horizon;
  made.setAttribute("aria-selected", String(h.horizon === byId("horizon").value));
  return made;
}

function staleName(h) {
  const cell = element("td", `${h.horizon} `);
  cell.append(element("span", "stale", "tag provisional"));
  return cell;
}

function showChosen() {
  const h = ahead?.data.horizons.find((one) => one.horizon === byId("horizon").value);
  const box = byId("chosen");
  byId("chosen-title").textContent = `How it was made, ${byId("horizon").value} ahead`;
  if (!h) {
    box.replaceChildren(element("p", "No forecast of this horizon.", "muted"));
    return;
  }
  const word = element("p", "", "regime-state small");
  word.append(h.direction.word);
  word.className = `direction ${h.direction.word === "up" || h.direction.word === "down" ? h.direction.word : "muted"}`;
  const note = h.note ? [element("p", h.note, "muted")] : [];
  const list = facts(element("dl", "", "facts"), [
    ["Said by", saidBy(h.forecaster, h.model, h.note)], ["Model", modelLink(h.model)], ["Made", `${time(h.made_at)}, from bars of ${h.timeframe}`],
    ["P(up)", known(h.p_up) ? `${share(h.p_up)}, base rate ${share(h.p_base)}` : "not said: only a promoted model says one"],
    ["Calibrated", h.calibration ? `${time(h.calibration.renewed_at)}, ${(h.calibration.n_own ?? 0).toLocaleString("en-US")} own and ${(h.calibration.n_pooled ?? 0).toLocaleString("en-US")} pooled outcomes since ${time(h.calibration.window_start)}` : "not known"],
    ["Lately", h.recent ? `${h.recent.window_days} days, n ${h.recent.n.toLocaleString("en-US")}: coverage ${covered(h.recent.coverage_80, h.recent.coverage_95)}, skill ${skillText(h.recent.skill_climatology)} over climatology, ${skillText(h.recent.skill_har)} over HAR-S` : "no live forecast has matured for a day yet"],
    ["Verdict", h.recent ? `${h.recent.verdict.replaceAll("_", " ")}: ${h.recent.reason}` : null],
    ["Walk forward", h.walk_forward ? `coverage ${covered(h.walk_forward.coverage_80, h.walk_forward.coverage_95)}, skill ${skillText(h.walk_forward.skill_climatology)} over climatology, ${skillText(h.walk_forward.skill_har)} over HAR-S${known(h.walk_forward.dm_t) ? ` (t ${h.walk_forward.dm_t.toFixed(1)})` : ""}` : "no report"],
  ]);
  box.replaceChildren(word, element("p", h.direction.why, "muted"), ...note, list);
}

function showAhead() {
  showHead(ahead);
  showFan(ahead);
  const rows = ahead.data.horizons.map(horizonRow);
  fill(byId("horizons"), rows, ahead.warnings?.[0] ?? "No forecast has been made yet.");
  showChosen();
}

function lines(id, series, options, emptyText) {
  const some = series.filter((s) => s.points.some(([, v]) => known(v)));
  if (some.length) place(byId(id), timeLines({ series: some, when: day, ...options }));
  else place(byId(id), () => element("p", emptyText, "muted"));
}

function showCalibration(scores) {
  place(byId("reliability"), scores?.reliability.length ? reliability(reliabilityBins(scores)) : () => "");
  place(byId("pit"), scores?.n ? pitHistogram(pitFracs(scores)) : () => "");
  byId("reliability-words").textContent = scores ? reliabilityWords(scores) : "No outcome is known yet.";
  byId("pit-words").textContent = scores ? pitWords(scores) : "No outcome is known yet.";
}

function showCoverage({ weeks }) {
  const points = (name) => weeks.map((w) => [Date.parse(w.ts), w[name]]);
  lines("coverage", [{ name: "80 %", points: points("coverage_80"), tone: "first" }, { name: "95 %", points: points("coverage_95"), tone: "second" }],
    { rules: [{ at: 0.8, text: "80 %" }, { at: 0.95, text: "95 %" }], format: (v) => share(v, 0), least: 0.1, label: "weekly coverage of the 80 and 95 % interval" }, "No outcome is known yet.");
  byId("coverage-words").textContent = weeks.length ? `${weeks.length} ${weeks.length === 1 ? "week" : "weeks"}; on the dashed lines as many outcomes fell inside as was said.` : "";
}

/** Live: the daily health rows. Walk forward: the quarters of the model's report. */
async function skillPoints(origin, horizon, forecaster, version) {
  if (origin === "live") {
    const rows = (await get("/api/forecasts/skill", { horizon, forecaster })).data.toSorted((a, b) => a.ts.localeCompare(b.ts));
    return { unit: "over the 30 days before each midnight", of: (name) => rows.map((r) => [Date.parse(r.ts), r[name]]) };
  }
  const isKept = version && (await get("/api/models")).data.some((h) => [h.champion, h.challenger, ...h.newest].some((m) => m?.version === version));
  const quarters = isKept ? (await get(`/api/models/${encodeURIComponent(version)}`)).data.quarters : [];
  return { unit: "by calendar quarter", of: (name) => quarters.map((q) => [Date.UTC(Number(q.group.slice(0, 4)), 3 * (Number(q.group.at(-1)) - 1)), q[name]]) };
}

function showSkill({ unit, of }) {
  const series = [{ name: "over HAR-S", points: of("skill_har"), tone: "first" }, { name: "over climatology", points: of("skill_climatology"), tone: "second" }];
  lines("skill", series, { rules: [{ at: 0, text: "no better" }], format: (v) => `${(100 * v).toFixed(1)} %`, least: 0.01, label: "skill over HAR-S and climatology" }, "Not measured yet: it takes a day of matured live forecasts, or a model's report.");
  byId("skill-words").replaceChildren(...(series[1].points.length ? skillLegend(unit) : []));
}

async function judge() {
  const mine = ++asked;
  const [horizon, origin, forecaster] = ["horizon", "origin", "forecaster"].map((id) => byId(id).value);
  byId("origin-words").textContent = ORIGIN_WORDS[origin];
  const parts = [record.load(horizon, origin, forecaster), get("/api/forecasts/reliability", { horizon, origin, forecaster })];
  const [own, all] = await Promise.all(parts.map((part) => part.catch((error) => error)));
  const version = ahead?.data.horizons.find((h) => h.horizon === horizon && h.forecaster === forecaster)?.model ?? own.data?.rows[0]?.model;
  const skill = await skillPoints(origin, horizon, forecaster, version).catch((error) => error);
  if (mine !== asked) return;
  say("judge", [own, all, skill].filter((x) => x instanceof Error).map((x) => x.message));
  if (!isNew("judged", [horizon, origin, forecaster, byId("scope").value, own.data, all.data, skill.of?.("skill_har")])) return;
  const scores = byId("scope").value === "own" ? own.data?.summary.find((s) => s.origin === origin) : all.data;
  showCalibration(scores);
  if (all.data) showCoverage(all.data);
  if (skill.of) showSkill(skill);
  remember(horizon, origin, forecaster);
}

function remember(horizon, origin, forecaster) {
  const query = new URLSearchParams({ ...(wanted.get("exchange") ? { exchange: wanted.get("exchange") } : {}), horizon, origin, forecaster });
  history.replaceState(null, "", `?${query}`);
}

async function refreshAhead() {
  try {
    ahead = await get(`/api/forecasts/${encodeURIComponent(symbol)}`, { exchange: wanted.get("exchange") });
    say("ahead", ahead.warnings ?? []);
    if (isNew("ahead", ahead)) showAhead();
  } catch (error) {
    say("ahead", [error.message]);
    if (!ahead) place(byId("fan"), () => element("p", error.message, "muted"));
  }
}

/** What is judged at first: the horizon asked for, by whoever answers it, live once enough live forecasts have matured. */
async function chooseFirst() {
  if (HORIZONS.includes(wanted.get("horizon"))) byId("horizon").value = wanted.get("horizon");
  const horizon = byId("horizon").value;
  const answering = ahead?.data.horizons.find((h) => h.horizon === horizon)?.forecaster ?? "har";
  byId("forecaster").value = wanted.get("forecaster") in NAMES ? wanted.get("forecaster") : answering;
  if (wanted.get("origin") in ORIGIN_WORDS) {
    byId("origin").value = wanted.get("origin");
    return;
  }
  const both = await get(`/api/forecasts/${encodeURIComponent(symbol)}/track-record`, { horizon, forecaster: byId("forecaster").value, exchange: wanted.get("exchange"), origin: "all", limit: 1 }).catch(() => null);
  const n = (origin) => both?.data.summary.find((s) => s.origin === origin)?.n ?? 0;
  if (n("live") < ENOUGH_LIVE && n("walk_forward") > n("live")) byId("origin").value = "walk_forward";
}

async function fillMarkets() {
  const series = (await get("/api/symbols")).data.filter((s) => s.timeframes.some((t) => ["15m", "1h"].includes(t.timeframe)));
  const options = series.map((s) => {
    const option = element("option", `${s.symbol} (${s.exchange})`);
    option.value = forecastPath(s.symbol, s.exchange);
    return option;
  });
  byId("symbol").replaceChildren(...options.sort((a, b) => a.textContent.localeCompare(b.textContent)));
  if (ahead) byId("symbol").value = forecastPath(ahead.data.symbol, ahead.data.exchange);
}

function choose(horizon) {
  byId("horizon").value = horizon;
  for (const line of byId("horizons").tBodies[0].rows) line.setAttribute("aria-selected", String(line.dataset.horizon === horizon));
  showChosen();
  judge();
}

showZone();
showHealth();
await refreshAhead();
if (ahead) {
  await chooseFirst();
  showAhead();
  await judge();
}
await fillMarkets().catch((error) => say("markets", [error.message]));
document.body.dataset.loaded = "true";
byId("symbol").addEventListener("change", () => location.assign(byId("symbol").value));
byId("horizon").addEventListener("change", () => choose(byId("horizon").value));
for (const id of ["origin", "forecaster", "scope"]) byId(id).addEventListener("change", judge);
for (const name of ["click", "keydown"]) {
  byId("horizons").addEventListener(name, (event) => {
    const line = event.target.closest("tr[data-horizon]");
    if (line && !event.target.closest("a") && (name === "click" || event.key === "Enter")) choose(line.dataset.horizon);
  });
}
byId("controls").addEventListener("submit", (event) => event.preventDefault());
setInterval(() => { if (!document.hidden) { refreshAhead(); if (ahead && record.isFirst) judge(); showHealth(); } }, REFRESH_MS);
