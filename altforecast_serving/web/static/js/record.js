// The track record: every past forecast of one market beside what happened, page by page.
// What belongs here: its table, paging and download link. What does not: figures over all of it (judged.js).

import { get, lineageText } from "./api.js";
import { covered, known, modelLink, number, share, skillText } from "./forecast_words.js";
import { element, fill, price, row, time } from "./format.js";

const PAGE = 50;
const byId = (id) => document.getElementById(id);
const bps = (value) => (known(value) ? (1e4 * value).toFixed(1) : "–");

export class Record {
  constructor(symbol, exchange) {
    Object.assign(this, { symbol, exchange, cursors: [null], next: null, question: {} });
    byId("older").addEventListener("click", () => this.turn(() => this.cursors.push(this.next)));
    byId("newer").addEventListener("click", () => this.turn(() => this.cursors.pop()));
  }

  get isFirst() { return this.cursors.length === 1; }

  /** The first page of a question; gives the answer, whose summary covers all of it. */
  async load(horizon, origin, forecaster) {
    this.question = { horizon, origin, forecaster, exchange: this.exchange() };
    this.cursors = [null];
    return this.show();
  }

  async turn(move) {
    move();
    try {
      await this.show();
    } catch (error) {
      byId("page-words").textContent = error.message;
    }
  }

  async show() {
    const question = this.question;
    const path = `/api/forecasts/${encodeURIComponent(this.symbol)}/track-record`;
    const answer = await get(path, { ...question, limit: PAGE, cursor: this.cursors.at(-1) });
    if (question !== this.question) return answer;
    this.next = answer.next_cursor;
    fill(byId("record"), answer.data.rows.map(recordRow), answer.warnings?.[0] ?? emptyText(question));
    byId("older").disabled = !this.next;
    byId("newer").disabled = this.isFirst;
    byId("page-words").textContent = answer.data.rows.length ? `page ${this.cursors.length}, ${PAGE} at most each` : "";
    byId("record-words").textContent = sumWords(answer.data.summary.find((s) => s.origin === question.origin));
    const query = new URLSearchParams(Object.entries({ ...question, limit: 10000, format: "csv" }).filter(([, v]) => v !== null));
    byId("csv").href = `${path}?${query}`;
    lineageText(byId("record-lineage"), answer.lineage);
    return answer;
  }
}

function emptyText({ origin, forecaster }) {
  if (origin === "live") return `None yet: no ${forecaster} forecast of this market was made live.`;
  return `None: the newest walk-forward test holds no ${forecaster} forecast of this market.`;
}

function sumWords(s) {
  if (!s || !s.n) return "No outcome is known yet.";
  const t = known(s.dm_t) ? ` (t ${s.dm_t.toFixed(1)})` : "";
  return `${s.n.toLocaleString("en-US")} outcomes known, ${time(s.first)} to ${time(s.last)}: coverage ${covered(s.coverage_80, s.coverage_95)}, skill over climatology ${skillText(s.skill_climatology)}, over HAR-S ${skillText(s.skill_har)}${t}. Losses in basis points.`;
}

function insideCell(p) {
  if (!known(p.is_in_80)) return element("td", p.reason ? "" : p.known_at >= p.target_ts ? "made too late to count" : "not known yet", "muted");
  const words = p.is_in_80 ? ["inside both", "up"] : p.is_in_95 ? ["in 95 % only", "warm"] : ["outside", "down"];
  return element("td", ...words);
}

function recordRow(p) {
  const isLive = p.origin === "live";
  const back = (level) => (known(p[level]) && known(p.price) ? price(p.price * Math.exp(p[level])) : "–");
  const interval = p.reason ? element("td", p.reason, "muted wrap") : element("td", `${back("q100")} to ${back("q900")}`, "wrap-narrow");
  const came = number(known(p.price_then) ? price(p.price_then) : "–", known(p.outcome) ? (p.outcome > 0 ? "up" : p.outcome < 0 ? "down" : "") : "muted");
  if (known(p.outcome)) came.title = `${(100 * Math.expm1(p.outcome)).toFixed(2)} % from ${price(p.price)}`;
  const model = element("td", modelLink(p.model, p.model.length > 26 ? `${p.model.slice(0, 24)}…` : p.model), "narrow-hide");
  return row([
    time(p.ts), element("td", element("span", isLive ? "live" : "walk forward", isLive ? "tag active" : "tag")), interval, came, insideCell(p), number(share(p.p_up)),
    number(bps(p.loss), "narrow-hide"), number(bps(p.loss_har), "narrow-hide"), number(bps(p.loss_climatology), "narrow-hide"), model,
  ]);
}
