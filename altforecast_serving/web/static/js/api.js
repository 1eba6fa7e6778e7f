// Talking to the REST API: one fetch that keeps the envelope and turns every failure into words.
// What belongs here: requests and lineage links. What does not: drawing.

export class ApiError extends Error {}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== ""));
  const address = query.size ? `${path}?${query}` : path;
  let response;
  try {
    response = await fetch(address, { headers: { accept: "application/json" } });
  } catch {
    throw new ApiError("the platform does not answer; it may be restarting");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(body.detail ?? `${path} answered ${response.status}`);
  return body;
}

/** Whether an answer differs from the one before of the same name: what has not changed is not drawn anew, so that focus stays. */
const seen = new Map();
export function isNew(name, answer) {
  const text = JSON.stringify(answer);
  const isSame = seen.get(name) === text;
  seen.set(name, text);
  return !isSame;
}

export function lineageText(element, lineage) {
  element.replaceChildren();
  if (!lineage) return;
  const known = lineage.known_at ? `known at ${lineage.known_at.replace("T", " ").slice(0, 16)} UTC` : "not known yet";
  element.append(`${known} · `);
  if (lineage.data_version) {
    const link = document.createElement("a");
    link.href = `/api/lineage/${encodeURIComponent(lineage.data_version)}`;
    link.textContent = `data ${lineage.data_version}`;
    element.append(link, " · ");
  }
  element.append(`run ${lineage.run_id ?? "none"}`);
}

export async function showHealth() {
  const element = document.getElementById("health");
  try {
    const response = await fetch("/health");
    const health = await response.json();
    element.dataset.status = health.status;
    element.textContent = health.status;
    element.title = Object.entries(health.components ?? {}).filter(([, c]) => !c.ok).map(([n]) => `${n} is not ok`).join(", ") || "all parts are well";
  } catch {
    element.dataset.status = "unhealthy";
    element.textContent = "no answer";
  }
}

export function showNotice(messages) {
  const element = document.getElementById("notice");
  const unique = [...new Set(messages.filter(Boolean))];
  element.hidden = unique.length === 0;
  element.textContent = unique.join(" · ");
}
