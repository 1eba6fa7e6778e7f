// Pictures of the arbitrage page: the edge-versus-size curve and the colours of the heat map.
// What belongs here: turning numbers into SVG and colours. What does not: requests and the page's state.

const WIDTH = 420;
const HEIGHT = 230;
const LEFT = 54;
const BOTTOM = 26;
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

const short = (usdt) => (usdt >= 1000 ? `${(usdt / 1000).toLocaleString("en-US", { maximumFractionDigits: 1 })}k` : usdt.toFixed(0));

export function curve(points, bestNotional) {
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img", "aria-label": `net edge at ${points.length} sizes` });
  const sizes = points.map(([size]) => Math.max(size, 1));
  const edges = points.map(([, edge]) => edge);
  const low = Math.min(0, ...edges);
  const high = Math.max(0, ...edges) + 1e-9;
  const [first, last] = [Math.log(sizes[0]), Math.log(sizes.at(-1))];
  const x = (size) => LEFT + ((Math.log(Math.max(size, 1)) - first) / (last - first || 1)) * (WIDTH - LEFT - 14);
  const y = (edge) => 12 + ((high - edge) / (high - low)) * (HEIGHT - BOTTOM - 20);
  picture.append(shape("line", { x1: LEFT, x2: LEFT, y1: 8, y2: HEIGHT - BOTTOM, class: "axis" }), shape("line", { x1: LEFT, x2: WIDTH - 8, y1: y(0), y2: y(0), class: "zero" }));
  for (const edge of [low, 0, high].filter((v, i) => i === 1 || Math.abs(y(v) - y(0)) > 12)) picture.append(shape("text", { x: LEFT - 6, y: y(edge) + 4, "text-anchor": "end" }, `${edge.toFixed(2)} %`));
  for (const i of [0, Math.floor(sizes.length / 2), sizes.length - 1].filter((v, k, all) => all.indexOf(v) === k)) picture.append(shape("text", { x: x(sizes[i]), y: HEIGHT - 8, "text-anchor": i === 0 ? "start" : i === sizes.length - 1 ? "end" : "middle" }, `${short(sizes[i])} USDT`));
  if (bestNotional && bestNotional >= sizes[0] && bestNotional <= sizes.at(-1)) picture.append(shape("line", { x1: x(bestNotional), x2: x(bestNotional), y1: 8, y2: HEIGHT - BOTTOM, class: "best" }));
  picture.append(shape("polyline", { points: points.map(([size, edge]) => `${x(size).toFixed(1)},${y(edge).toFixed(1)}`).join(" "), class: "edge" }));
  for (const [size, edge] of points) picture.append(shape("circle", { cx: x(size).toFixed(1), cy: y(edge).toFixed(1), r: 3, class: "point" }));
  return picture;
}

export function heat(edge, strongest) {
  const share = Math.min(1, Math.abs(edge) / (strongest || 1));
  return edge > 0 ? `rgba(63, 182, 139, ${(0.15 + 0.75 * share).toFixed(2)})` : `rgba(229, 99, 107, ${(0.05 + 0.4 * share).toFixed(2)})`;
}
