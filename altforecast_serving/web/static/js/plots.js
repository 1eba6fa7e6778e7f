// Pictures of the forecast pages: fan, lines over time, reliability diagram, PIT histogram.
// What belongs here: turning numbers into SVG of the width there is. What does not: requests, words, the page's state.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 24;
const HEIGHT = 230;
const NARROWEST = 240;
const BANDS = [["2.5 %", 0.025, 0.975, "band95"], ["10 %", 0.1, 0.9, "band80"], ["25 %", 0.25, 0.75, "band50"]];
const STEPS = 14;

export function shape(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

/** Draw now and again whenever the holder's width changes; make(width) gives the picture. */
export function place(holder, make) {
  const draw = () => {
    const width = Math.max(NARROWEST, Math.floor(holder.clientWidth));
    if (holder.drawn === width) return;
    holder.drawn = width;
    holder.replaceChildren(make(width));
  };
  holder.drawn = 0;
  holder.watcher?.disconnect();
  holder.watcher = new ResizeObserver(draw);
  holder.watcher.observe(holder);
  draw();
}

/** Round steps that cover [low, high] with about `wanted` lines. */
export function ticks(low, high, wanted = 4) {
  const raw = (high - low || 1) / wanted;
  const scale = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * scale).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** Pixels left of a picture whose labels are prices: "100,000" is longer than a share. */
const labelRoom = ([low, high], format) => Math.max(LEFT, ...ticks(low, high).map((tick) => 10 + 7 * format(tick).length));

function frame(width, label, [low, high], format, height = HEIGHT, left = LEFT) {
  const picture = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "plot", role: "img", "aria-label": label });
  const y = (value) => TOP + ((high - value) / (high - low || 1)) * (height - TOP - BOTTOM);
  for (const tick of ticks(low, high)) {
    picture.append(shape("line", { x1: left, x2: width - RIGHT, y1: y(tick), y2: y(tick), class: "mesh" }), shape("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, format(tick)));
  }
  return { picture, y };
}

const path = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

function spread(values, least) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = Math.max((high - low) * 0.08, (least - (high - low)) / 2, 1e-12);
  return [low - room, high + room];
}

/** Lines over time. series: [{name, points: [[ms, value]], tone}], rules: [{at, text}] are drawn dashed. Null values leave a gap. */
export function timeLines({ series, rules = [], format, label, least = 0, when }) {
  return (width) => {
    const known = series.flatMap((s) => s.points.filter(([, v]) => v !== null));
    const range = spread([...known.map(([, v]) => v), ...rules.map((r) => r.at)], least);
    const { picture, y } = frame(width, label, range, format);
    const [first, last] = [Math.min(...known.map(([t]) => t)), Math.max(...known.map(([t]) => t))];
    const x = (t) => (first === last ? (LEFT + width - RIGHT) / 2 : LEFT + ((t - first) / (last - first)) * (width - LEFT - RIGHT));
    for (const rule of rules) picture.append(shape("line", { x1: LEFT, x2: width - RIGHT, y1: y(rule.at), y2: y(rule.at), class: "rule" }), shape("text", { x: width - RIGHT, y: y(rule.at) - 4, "text-anchor": "end", class: "rule-text" }, rule.text));
    for (const one of series) {
      for (const run of runs(one.points)) {
        if (run.length > 1) picture.append(shape("polyline", { points: path(run.map(([t, v]) => [x(t), y(v)])), class: `line ${one.tone}` }));
      }
      if (one.points.length <= 120) picture.append(...one.points.filter(([, v]) => v !== null).map(([t, v]) => titled(shape("circle", { cx: x(t).toFixed(1), cy: y(v).toFixed(1), r: one.points.length > 40 ? 1.8 : 2.6, class: `dots ${one.tone}` }), `${when(t)}: ${one.name} ${format(v)}`)));
    }
    for (const [t, anchor] of first === last ? [[first, "middle"]] : [[first, "start"], [last, "end"]]) picture.append(shape("text", { x: x(t), y: HEIGHT - 7, "text-anchor": anchor }, when(t)));
    return picture;
  };
}

function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found;
}

function titled(made, text) {
  made.append(shape("title", {}, text));
  return made;
}

const share = (value) => `${(100 * value).toFixed(Math.abs(value * 1000 % 10) > 0.01 ? 1 : 0)} %`;

/** Reliability of P(up). bins: [{n, said, happened}]; on the dashed line said is what happened. */
export function reliability(bins) {
  return (width) => {
    const [low, high] = spread(bins.map((b) => b.said), 0.06);
    const { picture, y } = frame(width, `reliability of P(up) in ${bins.length} bins: said against happened`, spread([low, high, ...bins.map((b) => b.happened)], 0.1), share);
    const x = (value) => LEFT + ((value - low) / (high - low)) * (width - LEFT - RIGHT);
    const most = Math.max(...bins.map((b) => b.n));
    picture.append(shape("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "rule" }));
    picture.append(shape("polyline", { points: path(bins.map((b) => [x(b.said), y(b.happened)])), class: "line thin" }));
    for (const b of bins) picture.append(titled(shape("circle", { cx: x(b.said).toFixed(1), cy: y(b.happened).toFixed(1), r: (2.5 + 3.5 * Math.sqrt(b.n / most)).toFixed(1), class: "dots first" }), `said ${share(b.said)}, happened ${share(b.happened)}, n ${b.n}`));
    for (const tick of ticks(low, high, 3)) picture.append(shape("text", { x: x(tick), y: HEIGHT - 7, "text-anchor": "middle" }, share(tick)));
    return picture;
  };
}

/** PIT histogram. fracs: share of outcomes per equal bin of 0-1; the dashed line is what a calibrated forecast gives. */
export function pitHistogram(fracs) {
  return (width) => {
    const even = 1 / fracs.length;
    const { picture, y } = frame(width, `where outcomes fell among the quantiles, ${fracs.length} bins`, [0, Math.max(...fracs, even * 1.5) * 1.08], share);
    const step = (width - LEFT - RIGHT) / fracs.length;
    fracs.forEach((frac, i) => {
      const text = `${share(frac)} of outcomes between quantile ${(i * even).toFixed(2)} and ${((i + 1) * even).toFixed(2)}; calibrated: ${share(even)}`;
      picture.append(titled(shape("rect", { x: (LEFT + i * step + 1).toFixed(1), y: y(frac).toFixed(1), width: Math.max(1, step - 2).toFixed(1), height: Math.max(0, y(0) - y(frac)).toFixed(1), class: "bar" }), text));
    });
    picture.append(shape("line", { x1: LEFT, x2: width - RIGHT, y1: y(even), y2: y(even), class: "rule" }));
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) picture.append(shape("text", { x: LEFT + tick * (width - LEFT - RIGHT), y: HEIGHT - 7, "text-anchor": tick === 0 ? "start" : tick === 1 ? "end" : "middle" }, tick.toFixed(2)));
    return picture;
  };
}

/** Value of a fan at a moment: quantiles of log returns grow with the square root of time between the horizons. */
export function between(points, t) {
  const i = Math.max(1, points.findIndex((p) => p.t >= t));
  const [a, b] = [points[i - 1], points[i]];
  const root = (p) => Math.sqrt(Math.max(0, p - points[0].t));
  const part = b.t === a.t ? 1 : (root(t) - root(a.t)) / (root(b.t) - root(a.t));
  const at = {};
  for (const level of Object.keys(b.prices)) at[level] = Math.exp(Math.log(a.prices[level]) * (1 - part) + Math.log(b.prices[level]) * part);
  return { t, prices: at };
}

/** Points of a fan with steps between the horizons, so that its edges bend as they should. */
export function bent(points) {
  const found = [points[0]];
  for (let i = 1; i < points.length; i += 1) {
    for (let k = 1; k <= STEPS; k += 1) found.push(between(points, points[i - 1].t + ((points[i].t - points[i - 1].t) * k) / STEPS));
  }
  return found;
}

/** Labels that would cover each other become one. */
function places(labels) {
  const found = [];
  for (const [x, text] of labels) {
    const before = found.at(-1);
    if (before && x - before[0] < 34) before[1] += `, ${text}`;
    else found.push([x, text]);
  }
  return found;
}

/** Fan of prices. points: [{t: ms, prices: {level: price}}] from the moment it was made; each horizon has a mark. */
export function fanPicture(points, names, { format, when }) {
  return (width) => {
    const height = 290;
    const values = points.flatMap((p) => [p.prices[0.025], p.prices[0.975]]);
    const range = spread(values, 0);
    const left = labelRoom(range, format);
    const { picture, y } = frame(width, `fan of ${points.length - 1} horizons`, range, format, height, left);
    const root = (t) => Math.sqrt(Math.max(0, t - points[0].t));
    const x = (t) => left + 18 + (root(t) / root(points.at(-1).t)) * (width - left - RIGHT - 40);
    const curve = bent(points);
    for (const [, low, high, className] of BANDS) {
      picture.append(shape("polygon", { points: path([...curve.map((p) => [x(p.t), y(p.prices[high])]), ...curve.toReversed().map((p) => [x(p.t), y(p.prices[low])])]), class: className }));
    }
    picture.append(shape("polyline", { points: path(curve.map((p) => [x(p.t), y(p.prices[0.5])])), class: "line median" }));
    points.slice(1).forEach((p, i) => {
      picture.append(titled(shape("line", { x1: x(p.t), x2: x(p.t), y1: y(p.prices[0.975]), y2: y(p.prices[0.025]), class: "mark" }), `${names[i]}, until ${when(p.t)}: 80 % ${format(p.prices[0.1])} to ${format(p.prices[0.9])}`));
    });
    picture.append(...places(points.slice(1).map((p, i) => [x(p.t), names[i]])).map(([at, text]) => shape("text", { x: at, y: height - 7, "text-anchor": "middle" }, text)));
    if (x(points[1].t) - left > 70) picture.append(shape("text", { x: left, y: height - 7, "text-anchor": "start" }, "made"));
    return picture;
  };
}
