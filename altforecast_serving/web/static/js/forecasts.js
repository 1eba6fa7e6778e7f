// The overview of forecasts: every market and horizon as a table to sort, who answers, calibration over all markets.
// What belongs here: this page. What does not: pictures (plots.js), shared words (forecast_words.js).

import { get, isNew, lineageText, showHealth, showNotice } from "./api.js";
import { covered, directionTag, forecastPath, HORIZONS, intervalText, known, modelLink, number, saidBy, share, skillCell, skillText, widthText } from "./forecast_words.js";
import { element, fill, row, showZone, time } from "./format.js";
import { pitFracs, pitWords, reliabilityBins, reliabilityWords } from "./judged.js";
import { pitHistogram, place, reliability } from "./plots.js";

const REFRESH_MS = 30000;
const SHOWN = 600;
const byId = (id) => document.getElementById(id);
const wanted = new URLSearchParams(location.search);
let lines = [];
let scores = {};
let order = { key: wanted.get("sort") ?? "name", isDown: wanted.get("down") === "1" };

/** Figures of a horizon's answering forecaster: lately where enough matured, else of the walk-forward test. */
function scoreOf(horizon, models, skill) {
  const mine = models?.find((m) => m.horizon === horizon);
  const forecaster = mine?.answering === "champion" ? "champion" : "har";
  const lately = skill?.filter((s) => s.horizon === horizon && s.forecaster === forecaster && known(s.coverage_80)).sort((a, b) => b.ts.localeCompare(a.ts))[0];
  if (lately) return { ...lately, model: mine, source: `last ${lately.window_days} days, n ${lately.n}` };
  const tested = mine?.champion?.scores ?? mine?.newest.find((m) => m.role === "baseline")?.scores;
  return { ...(tested ?? {}), model: mine, source: known(tested?.coverage_80) ? "walk forward" : "not measured yet" };
}

function tile(horizon) {
  const { model, source, ...score } = scores[horizon];
  const box = element("div", "", "tile");
  const isNobody = !model?.newest.length && !lines.some((l) => l.horizon === horizon);
  const who = element("span", isNobody ? "nobody answers yet" : model?.answering === "champion" ? "champion" : "baseline HAR-S answers");
  const link = model?.champion && model.answering === "champion" ? modelLink(model.champion.version, "model card") : null;
  box.append(element("b", `${horizon} ahead`), who, ...(link ? [" · ", link] : []), element("br"));
  box.append(element("span", `coverage 80 / 95: ${covered(score.coverage_80, score.coverage_95)}`), element("br"));
  box.append(element("span", `skill over climatology ${skillText(score.skill_climatology)}, HAR-S ${skillText(score.skill_har)}`), element("br"), element("span", source));
  if (model?.note) box.title = model.note;
  return box;
}

function keyed(line) {
  const score = scores[line.horizon] ?? {};
  return {
    ...line, name: line.metric ?? line.symbol, order: HORIZONS.indexOf(line.horizon),
    width: known(line.high_80) && line.price ? (line.high_80 - line.low_80) / line.price : null, coverage: score.coverage_80, skill: score.skill_har,
  };
}

function compare(a, b) {
  const [x, y] = [a[order.key], b[order.key]];
  if (!known(x) || !known(y)) return Number(known(y)) - Number(known(x)); // what is not known stands last, whichever way
  const found = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
  return (order.isDown ? -found : found) || a.name.localeCompare(b.name) || a.order - b.order;
}

function lineRow(line) {
  const link = element("a", line.name);
  link.href = `${forecastPath(line.symbol, line.exchange)}&horizon=${line.horizon}`;
  const name = element("td", link);
  if (line.is_stale) name.append(" ", element("span", "stale", "tag provisional"));
  const cells = [name, line.horizon];
  if (line.reason) {
    const why = element("td", line.reason, "muted wrap");
    why.colSpan = 5;
    cells.push(why);
  } else {
    cells.push(number(share(line.sigma, 2), "narrow-hide"), number(widthText(line.low_80, line.high_80, line.price)), element("td", intervalText(line.low_80, line.high_80), "narrow-hide"), number(share(line.p_up)), element("td", directionTag(line.direction), "wrap-narrow"));
  }
  return row([...cells, number(share(line.reason ? null : line.coverage), "narrow-hide"), skillCell(line.reason ? null : line.skill, "narrow-hide"), element("td", time(line.target_ts), "narrow-hide"), element("td", saidBy(line.forecaster, line.model, null), "narrow-hide")]);
}

function draw() {
  const horizon = byId("horizon").value;
  const text = byId("find").value.trim().toUpperCase();
  const shown = lines.map(keyed).filter((l) => (!horizon || l.horizon === horizon) && `${l.name} ${l.symbol}`.toUpperCase().includes(text)).sort(compare);
  const empty = lines.length ? "No market like that." : "No forecast yet: they are made at each bar's close, once there are bars of 15m or 1h.";
  fill(byId("lines"), shown.slice(0, SHOWN).map(lineRow), empty);
  for (const head of byId("lines").tHead.rows[0].cells) {
    if (head.dataset.key) head.setAttribute("aria-sort", head.dataset.key !== order.key ? "none" : order.isDown ? "descending" : "ascending");
  }
  const query = new URLSearchParams({ ...(horizon ? { horizon } : {}), sort: order.key, ...(order.isDown ? { down: "1" } : {}) });
  history.replaceState(null, "", `?${query}`);
}

async function drawJudged() {
  const horizon = byId("horizon").value || "1h";
  const model = scores[horizon]?.model;
  const forecaster = model?.answering === "champion" ? "champion" : "har";
  for (const origin of ["live", "walk_forward"]) {
    const { data } = await get("/api/forecasts/reliability", { horizon, forecaster, origin });
    if (!data.n && origin === "live") continue;
    const what = `${horizon} ahead, all markets, ${origin === "live" ? "live" : "walk forward"}.`;
    if (data.reliability.length) place(byId("reliability"), reliability(reliabilityBins(data)));
    else place(byId("reliability"), () => "");
    if (data.n) place(byId("pit"), pitHistogram(pitFracs(data)));
    else place(byId("pit"), () => "");
    byId("reliability-words").textContent = `${what} ${reliabilityWords(data)}`;
    byId("pit-words").textContent = `${what} ${pitWords(data)}`;
    return;
  }
}

async function refresh() {
  const asked = ["/api/forecasts", "/api/models", "/api/forecasts/skill"].map((path) => get(path).catch((error) => ({ data: null, warnings: [error.message] })));
  const [forecasts, models, skill] = await Promise.all(asked);
  if (!isNew("page", [forecasts, models.data, skill.data])) return;
  scores = Object.fromEntries(HORIZONS.map((h) => [h, scoreOf(h, models.data, skill.data)]));
  lines = forecasts.data ?? lines;
  byId("horizons").replaceChildren(...HORIZONS.map(tile));
  draw();
  lineageText(byId("lines-lineage"), forecasts.lineage);
  const judged = await drawJudged().then(() => [], (error) => [error.message]);
  showNotice([forecasts, models].flatMap((a) => a.warnings ?? []).concat(judged).slice(0, 2));
  document.body.dataset.loaded = "true";
}

for (const head of byId("lines").tHead.rows[0].cells) {
  const button = element("button", head.textContent, "sort");
  button.type = "button";
  if (!head.dataset.key) continue;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    order = { key: head.dataset.key, isDown: order.key === head.dataset.key ? !order.isDown : head.classList.contains("number") };
    draw();
  });
}
showZone();
showHealth();
if (HORIZONS.includes(wanted.get("horizon"))) byId("horizon").value = wanted.get("horizon");
await refresh();
byId("horizon").addEventListener("change", () => { draw(); drawJudged().catch((error) => showNotice([error.message])); });
byId("find").addEventListener("input", draw);
setInterval(() => { if (!document.hidden) { refresh(); showHealth(); } }, REFRESH_MS);
