// Renders this host's OpenAPI document. Everything is put on the page as text, never as markup.
const { openapi: source, root, try: tries } = document.body.dataset;
const VERBS = ["get", "post", "put", "patch", "delete"];
const page = document.getElementById("page");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") node.addEventListener(value[0], value[1]);
    else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

function resolve(schema, document_) {
  if (!schema || !schema.$ref) return schema ?? {};
  return schema.$ref.slice(2).split("/").reduce((at, part) => at?.[part.replace(/~1/g, "/").replace(/~0/g, "~")], document_) ?? {};
}

function typeName(schema, document_) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((s) => typeName(s, document_)).join(" or ");
  if (schema.allOf) return schema.allOf.map((s) => typeName(s, document_)).join(" and ");
  if (schema.enum) return schema.enum.map(String).join(" | ");
  if (schema.type === "array") return `list of ${typeName(schema.items, document_)}`;
  return (schema.format ? `${schema.type} (${schema.format})` : schema.type) ?? "any";
}

function table(head, rows) {
  const body = rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell))));
  return el("div", { class: "wide" }, el("table", {}, el("tr", {}, ...head.map((h) => el("th", {}, h))), ...body));
}

function fieldsOf(schema, document_, seen, out) {
  const name = schema?.$ref;
  if (schema?.items) fieldsOf(schema.items, document_, seen, out);
  for (const part of [...(schema?.anyOf ?? []), ...(schema?.allOf ?? [])]) fieldsOf(part, document_, seen, out);
  if (schema?.additionalProperties?.$ref) fieldsOf(schema.additionalProperties, document_, seen, out);
  if (!name || seen.has(name)) return out;
  seen.add(name);
  const target = resolve(schema, document_);
  if (target.properties) {
    const rows = Object.entries(target.properties).map(([field, s]) => [el("code", {}, field), typeName(s, document_), s.description ?? resolve(s, document_).description ?? ""]);
    out.push(el("div", {}, el("strong", {}, target.title ?? name.split("/").pop()), el("span", { class: "soft" }, ` ${target.description ?? ""}`), table(["field", "type", "meaning"], rows)));
    for (const s of Object.values(target.properties)) fieldsOf(s, document_, seen, out);
  }
  return out;
}

function parametersTable(parameters, document_) {
  if (!parameters.length) return null;
  const rows = parameters.map((p) => [el("code", {}, p.name + (p.required ? " *" : "")), p.in, typeName(p.schema, document_), p.description ?? p.schema?.description ?? ""]);
  return table(["parameter", "in", "type", "meaning"], rows);
}

function tryForm(verb, path, operation, parameters) {
  const inputs = parameters.filter((p) => p.in !== "header").map((p) => {
    const example = p.schema?.examples?.[0] ?? p.examples?.[0] ?? p.example ?? p.schema?.default ?? "";
    return { p, input: el("input", { name: p.name, value: p.in === "path" ? String(example) : "", placeholder: String(example ?? ""), "aria-label": p.name }) };
  });
  const body = operation.requestBody ? el("textarea", { rows: "5", "aria-label": "body" }, "{}") : null;
  const key = verb === "get" ? null : el("input", { type: "password", "aria-label": "API key", placeholder: "API key (X-API-Key)", autocomplete: "off" });
  const out = el("pre", { hidden: "" });
  async function send(event) {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    for (const { p, input } of inputs) {
      if (p.in === "path") url = url.replace(`{${p.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.append(p.name, input.value);
    }
    const headers = key?.value ? { "X-API-Key": key.value } : {};
    if (body) headers["Content-Type"] = "application/json";
    const address = `${root}${url}${query.size ? `?${query}` : ""}`;
    out.hidden = false;
    out.textContent = "…";
    try {
      const answer = await fetch(address, { method: verb.toUpperCase(), headers, body: body?.value });
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it came */ }
      out.textContent = `${verb.toUpperCase()} ${address}\n${answer.status} ${answer.headers.get("content-type") ?? ""}\n\n${shown.slice(0, 20000)}`;
    } catch (error) {
      out.textContent = `No answer: ${error.message}`;
    }
  }
  const rows = inputs.map(({ p, input }) => [el("code", {}, p.name), input]);
  return el("form", { on: ["submit", send] }, rows.length ? table(["parameter", "value"], rows) : null, key, body, el("p", {}, el("button", { type: "submit" }, "Try it")), out);
}

function operationBlock(verb, path, operation, document_) {
  const parameters = operation.parameters ?? [];
  const good = Object.entries(operation.responses ?? {}).find(([status]) => status.startsWith("2"));
  const schema = good?.[1]?.content?.["application/json"]?.schema;
  const answers = Object.entries(operation.responses ?? {}).map(([status, r]) => [el("code", {}, status), r.description ?? "", Object.keys(r.content ?? {}).join(", ")]);
  const inside = el("div", { class: "inside" }, el("p", {}, operation.description ?? operation.summary ?? ""), parametersTable(parameters, document_), table(["status", "meaning", "content"], answers));
  if (schema) inside.append(...fieldsOf(schema, document_, new Set(), []));
  if (tries === "yes") inside.append(tryForm(verb, path, operation, parameters));
  const head = el("summary", {}, el("span", { class: `verb ${verb}` }, verb.toUpperCase()), el("code", {}, path), el("span", { class: "soft" }, operation.description?.split("\n")[0] ?? operation.summary ?? ""));
  return el("details", tries === "yes" ? {} : { open: "" }, head, inside);
}

function show(document_) {
  const groups = new Map();
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const verb of VERBS.filter((v) => item[v])) {
      const tag = item[verb].tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationBlock(verb, path, item[verb], document_));
    }
  }
  const links = [...groups.keys()].map((tag) => el("a", { href: `#${tag}` }, tag));
  const other = tries === "yes" ? el("a", { href: `${root}/redoc` }, "as a reference to read") : el("a", { href: `${root}/docs` }, "with forms to try");
  page.replaceChildren(
    el("h1", {}, document_.info.title), el("p", { class: "soft" }, `version ${document_.info.version} · `, other, " · ", el("a", { href: source }, "openapi.json")),
    el("p", {}, document_.info.description ?? ""), el("nav", { "aria-label": "groups" }, ...links),
    ...[...groups].flatMap(([tag, blocks]) => [el("h2", { id: tag }, tag), ...blocks]),
  );
}

try {
  const answer = await fetch(source);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  show(await answer.json());
} catch (error) {
  page.replaceChildren(el("p", {}, `The API description could not be loaded: ${error.message}`));
}
