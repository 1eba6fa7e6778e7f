// What calibration figures say, for the pages that draw them: bins for the pictures and one sentence each.
// What belongs here: turning scores of the API into inputs of plots and sentences. What does not: drawing, requests.

import { known, share } from "./forecast_words.js";

const FEW = 400;
const FEWEST = 50;

/** Bins of at least FEWEST forecasts: neighbours are put together. */
export function reliabilityBins(scores) {
  const found = [];
  for (const b of scores.reliability) {
    const last = found.at(-1);
    const one = { n: b.n, said: b.mean_probability, happened: b.happened_frac };
    if (last && last.n < FEWEST) found[found.length - 1] = together(last, one);
    else found.push(one);
  }
  if (found.length > 1 && found.at(-1).n < FEWEST) found.push(together(...found.splice(-2)));
  return found;
}

function together(a, b) {
  const mean = (name) => (a.n * a[name] + b.n * b[name]) / (a.n + b.n);
  return { n: a.n + b.n, said: mean("said"), happened: mean("happened") };
}

export function reliabilityWords(scores) {
  if (scores.n === 0) return "No outcome is known yet.";
  if (!scores.reliability.length) return "No calibrated P(up) was said: only promoted models with a proven direction model say one.";
  const said = scores.reliability.map((b) => b.mean_probability);
  const off = known(scores.ece) ? ` On average off by ${share(scores.ece)}.` : "";
  return `Said between ${share(Math.min(...said))} and ${share(Math.max(...said))}; on the dashed line what was said is what happened.${off}`;
}

export function pitFracs(scores) {
  const n = scores.pit.reduce((sum, bar) => sum + bar.n, 0) || 1;
  return scores.pit.map((bar) => bar.n / n);
}

export function pitWords(scores) {
  if (!scores.n) return "No outcome is known yet.";
  const few = scores.n < FEW ? ` Only ${scores.n} outcomes: chance alone makes such columns uneven.` : "";
  return `${scores.n.toLocaleString("en-US")} outcomes, ${share(scores.coverage_80)} inside the 80 % interval, ${share(scores.coverage_95)} inside the 95 %. Equal columns are a right width; high edges mean too narrow.${few}`;
}
