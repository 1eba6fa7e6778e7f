// The models page: who answers for each horizon, what was trained, and the log with its reasons.
// What belongs here: this page. What does not: one model's card (model.js).

import { get, isNew, showHealth, showNotice } from "./api.js";
import { covered, eventTag, known, modelLink, number, skillCell, skillText } from "./forecast_words.js";
import { element, fill, row, showZone, time } from "./format.js";

const REFRESH_MS = 30000;
const byId = (id) => document.getElementById(id);

function tile(horizon) {
  const box = element("div", "", "tile");
  const champion = horizon.answering === "champion" ? horizon.champion : null;
  box.append(element("b", `${horizon.horizon} ahead`), element("span", champion ? "champion " : horizon.answering ? "baseline HAR-S answers" : "nobody answers yet"));
  if (champion) {
    box.append(modelLink(champion.version), element("br"), element("span", `skill over HAR-S ${skillText(champion.scores.skill_har)}, coverage ${covered(champion.scores.coverage_80, champion.scores.coverage_95)}`));
  }
  if (horizon.challenger) {
    box.append(element("br"), element("span", "challenger "), modelLink(horizon.challenger.version));
  }
  if (horizon.note) box.append(element("p", horizon.note, "muted"));
  return box;
}

const ROLES = { champion: "tag up", challenger: "tag active" };

function modelRow(m) {
  const isJudged = m.n_gates > 0;
  const gates = number(isJudged ? `${m.n_gates_met} of ${m.n_gates}` : "–", isJudged ? (m.n_gates_met === m.n_gates ? "up" : "warm") : "muted");
  return row([
    element("td", modelLink(m.version)), m.horizon, element("td", element("span", m.role, ROLES[m.role] ?? "tag")), skillCell(m.scores.skill_har), number(known(m.scores.dm_t) ? m.scores.dm_t.toFixed(1) : "–", "narrow-hide"),
    skillCell(m.scores.skill_climatology), number(covered(m.scores.coverage_80, m.scores.coverage_95), "narrow-hide"), gates, element("td", time(m.trained_at), "narrow-hide"),
  ]);
}

function eventRow(e) {
  const model = e.version ? element("td", modelLink(e.version)) : element("td", "baseline HAR-S", "muted");
  return row([time(e.at), e.horizon, element("td", eventTag(e.event)), model, element("td", e.reason, "wrap"), element("td", e.actor, "muted narrow-hide")]);
}

async function refresh() {
  try {
    const { data, warnings } = await get("/api/models");
    showNotice(warnings ?? []);
    if (!isNew("models", data)) return;
    byId("horizons").replaceChildren(...data.map(tile));
    const models = data.flatMap((h) => h.newest).sort((a, b) => b.trained_at.localeCompare(a.trained_at));
    fill(byId("models"), models.map(modelRow), "None yet: baselines are trained daily, candidates by the job train_models.");
    fill(byId("events"), data.flatMap((h) => h.events).sort((a, b) => b.id - a.id).map(eventRow), "Nothing yet.");
  } catch (error) {
    showNotice([error.message]);
  }
  document.body.dataset.loaded = "true";
}

showZone();
showHealth();
await refresh();
setInterval(() => { if (!document.hidden) { refresh(); showHealth(); } }, REFRESH_MS);
