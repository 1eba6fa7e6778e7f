// The card of one model: what it is, what it was held against, its scores, folds, history and where its run is.
// What belongs here: this page. What does not: pictures (plots.js), the list of models (models.js).

import { get, lineageText, showHealth, showNotice } from "./api.js";
import { covered, eventTag, facts, known, number, share, skillCell, skillLegend, skillText } from "./forecast_words.js";
import { element, fill, row, showZone, time } from "./format.js";
import { reliabilityBins, reliabilityWords } from "./judged.js";
import { place, reliability, timeLines } from "./plots.js";

const byId = (id) => document.getElementById(id);
const version = decodeURIComponent(location.pathname.split("/").at(-1));
const ROLE_WORDS = {
  champion: "It answers now.", challenger: "It forecasts in the champion's shadow.", "former champion": "It answered once.",
  candidate: "It was trained and never answered.", baseline: "It needs no machine learning and answers whenever no model may.",
};
const FORECASTERS = { mix: "mix (the model's answer)", scale: "scale model", shape: "shape model", har: "HAR-S, mean of pooled and own", har_pooled: "HAR-S, pooled", har_own: "HAR-S, own", ewma: "EWMA", climatology: "climatology" };
const day = (ms) => time(new Date(ms).toISOString()).split(",")[0];
const code = (text) => element("code", text);

function showHead(m) {
  document.title = `${m.version} · AltForecast`;
  byId("card-title").textContent = m.version;
  byId("role").replaceChildren(element("span", m.role, `tag ${m.role === "champion" ? "up" : ""}`.trim()));
  byId("card-lead").textContent = `${m.family}, ${m.horizon} ahead. ${ROLE_WORDS[m.role] ?? ""}`;
  facts(byId("facts"), [
    ["Trained", `${time(m.trained_at)}, on ${m.n_rows.toLocaleString("en-US")} rows`], ["Data", `${time(m.train_from)} to ${time(m.train_until)}`],
    ["Tested", m.scores.test_from ? `${time(m.scores.test_from)} to ${time(m.scores.test_to)}, ${(m.scores.n ?? 0).toLocaleString("en-US")} forecasts it did not know` : "no walk-forward test: too little history"],
    ["Skill", known(m.scores.skill_climatology) ? `${skillText(m.scores.skill_climatology)} over climatology, ${skillText(m.scores.skill_har)} over HAR-S${known(m.scores.dm_t) ? ` (t ${m.scores.dm_t.toFixed(1)})` : ""}` : null],
    ["Coverage", known(m.scores.coverage_80) ? covered(m.scores.coverage_80, m.scores.coverage_95) : null],
    ["Direction", known(m.scores.accuracy) ? `${share(m.scores.accuracy)} right, always saying the commoner: ${share(m.scores.majority)}` : "none claimed"],
    ["Code", m.code_version], ["Data hash", code(m.data_hash)], ["Dagster run", m.dagster_run_id ? code(m.dagster_run_id) : null],
  ]);
}

function showMlflow(m) {
  const box = byId("mlflow");
  if (!m.mlflow_run_id) {
    box.replaceChildren(element("p", "It is not in MLflow: candidates are logged there after training (where that failed, the next run catches up), baselines never.", "muted"));
    return;
  }
  const how = element("p", "Open it with ", "muted");
  how.append(code("make mlflow"), ", then look for the run id.");
  box.replaceChildren(facts(element("dl", "", "facts"), [["Run", code(m.mlflow_run_id)], ["Version", known(m.mlflow_version) ? String(m.mlflow_version) : null], ["Registered", m.registered_at ? time(m.registered_at) : null]]), how);
}

function gateRow(g) {
  return row([element("td", element("span", g.is_met ? "met" : "missed", `tag ${g.is_met ? "up" : "down"}`)), element("td", g.goal, "wrap"), element("td", g.reached, "wrap"), g.gate, element("td", g.aim, "muted narrow-hide")]);
}

const tText = (t) => (known(t) ? t.toFixed(1) : "–");
const scoreRow = (f) => row([element("td", FORECASTERS[f.name] ?? f.name, "wrap"), skillCell(f.skill_har), number(tText(f.dm_t)), skillCell(f.skill_climatology), number(covered(f.coverage_80, f.coverage_95))]);
const groupRow = (g) => row([g.group, number(g.n.toLocaleString("en-US")), number(covered(g.coverage_80, g.coverage_95)), skillCell(g.skill_har), skillCell(g.skill_climatology)]);

function picture(id, isThere, make, words, emptyText) {
  place(byId(id), isThere ? make() : () => element("p", emptyText, "muted"));
  byId(`${id}-words`).replaceChildren(...(isThere ? [words].flat() : []));
}

function showPictures(m) {
  const quarter = (name) => m.quarters.map((q) => [Date.UTC(Number(q.group.slice(0, 4)), 3 * (Number(q.group.at(-1)) - 1)), q[name]]);
  const skill = () => timeLines({
    series: [{ name: "over HAR-S", points: quarter("skill_har"), tone: "first" }, { name: "over climatology", points: quarter("skill_climatology"), tone: "second" }],
    rules: [{ at: 0, text: "no better" }], format: (v) => `${(100 * v).toFixed(1)} %`, least: 0.01, label: "skill by quarter", when: (ms) => `${new Date(ms).getUTCFullYear()} Q${new Date(ms).getUTCMonth() / 3 + 1}`,
  });
  picture("quarters", m.quarters.length, skill, skillLegend("by calendar quarter"), "No walk-forward test.");
  const coverage = () => timeLines({ series: [{ name: "80 %", points: m.coverage_weeks.map((w) => [Date.parse(w.ts), w.coverage_80]), tone: "first" }], rules: [{ at: 0.8, text: "80 %" }], format: (v) => share(v, 0), least: 0.1, label: "weekly coverage", when: day });
  picture("coverage", m.coverage_weeks.length, coverage, `${m.coverage_weeks.length} ${m.coverage_weeks.length === 1 ? "week" : "weeks"}.`, "No walk-forward test.");
  picture("reliability", m.reliability.length, () => reliability(reliabilityBins(m)), reliabilityWords({ reliability: m.reliability, ece: m.scores.ece }), "It says no P(up).");
}

function foldText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && value > 1e11) return day(value);
  if (/^\d{4}-\d\d-\d\dT/.test(value)) return day(Date.parse(value));
  return typeof value === "number" ? value.toLocaleString("en-US", { maximumFractionDigits: 5 }) : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function showGroups(m) {
  for (const name of ["symbols", "deciles"]) {
    byId(`n-${name}`).textContent = String(m[name].length);
    fill(byId(name), m[name].map(groupRow), "No walk-forward test.");
  }
  const columns = Object.keys(m.folds[0] ?? {});
  byId("n-folds").textContent = String(m.folds.length);
  byId("folds").tHead.replaceChildren(row(columns.map((c) => element("th", c.replaceAll("_", " ")))));
  fill(byId("folds"), m.folds.map((f) => row(columns.map((c) => foldText(f[c])))), "No folds.");
  const parameters = Object.entries(m.parameters).map(([name, value]) => [name, code(foldText(value))]);
  facts(byId("parameters"), [...parameters, ...Object.entries(m.files).map(([name, sum]) => [name, code(sum)])]);
}

function eventRow(e) {
  const reason = element("td", e.reason, "wrap");
  if (e.verdicts.length) reason.title = e.verdicts.map((v) => `${v.is_met ? "met" : "missed"}: ${v.goal} ${v.reached}`).join("\n");
  return row([time(e.at), element("td", eventTag(e.event)), reason, element("td", e.actor, "muted narrow-hide")]);
}

function show({ data, lineage }) {
  showHead(data);
  showMlflow(data);
  fill(byId("gates"), data.gates.map(gateRow), data.role === "baseline" ? "A baseline passes no gate: it is what models are held against." : "Not judged yet.");
  fill(byId("forecasters"), data.forecasters.toSorted((a, b) => (b.skill_har ?? -1) - (a.skill_har ?? -1)).map(scoreRow), "No walk-forward test.");
  byId("scores-words").textContent = data.forecasters.length ? "Skill is 1 - loss / loss of the reference; HAR-S here is, per market, the better of pooled and own, picked with hindsight." : "";
  showPictures(data);
  showGroups(data);
  fill(byId("events"), data.events.map(eventRow), "Nothing yet.");
  lineageText(byId("card-lineage"), lineage?.data_version ? lineage : null);
}

showZone();
showHealth();
try {
  const answer = await get(`/api/models/${encodeURIComponent(version)}`);
  show(answer);
  showNotice(answer.warnings ?? []);
} catch (error) {
  showNotice([error.message]);
}
document.body.dataset.loaded = "true";
