// Numbers, times and small pieces of page as people read them.
// What belongs here: formatting and element making. What does not: requests.

const zone = document.body.dataset.zone || "UTC";
const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit" });

export function showZone() {
  document.getElementById("zone").textContent = zone;
}

export const time = (iso) => (iso ? clock.format(new Date(iso)) : "–");

export function price(value) {
  if (value === null || value === undefined) return "–";
  const digits = Math.abs(value) >= 1e6 ? 0 : Math.abs(value) >= 100 ? 2 : Math.abs(value) >= 1 ? 4 : 8;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

export const compact = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 }));

export const percent = (value, digits = 2) => (value === null || value === undefined ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(digits)} %`);

export const words = (name) => name.replaceAll("_", " ");

export function element(tag, content = "", className = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content instanceof Node) made.append(content);
  else made.textContent = content;
  return made;
}

export function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) made.append(cell instanceof HTMLTableCellElement ? cell : element("td", cell));
  return made;
}

export function fill(table, rows, emptyText) {
  const body = table.tBodies[0];
  if (rows.length) {
    body.replaceChildren(...rows);
    return;
  }
  const cell = element("td", emptyText, "muted wrap");
  cell.colSpan = Math.max(1, table.tHead?.rows[0]?.cells.length ?? 1);
  body.replaceChildren(row([cell]));
}

export function evidenceCells(evidence) {
  if (!evidence || evidence.hit_frac === null || evidence.hit_frac === undefined) {
    return [element("td", "not measured yet", "muted"), element("td", evidence?.verdict ?? "", "muted wrap")];
  }
  const hit = (100 * evidence.hit_frac).toFixed(1);
  const base = (100 * evidence.base_frac).toFixed(1);
  const interval = evidence.ci_low_pp === null ? "" : ` [${evidence.ci_low_pp.toFixed(1)}, ${evidence.ci_high_pp.toFixed(1)}] pp`;
  return [element("td", `${hit} % vs ${base} %${interval}, n ${evidence.n}`), element("td", evidence.verdict ?? "", "wrap")];
}
