/** Upper end of the one-sided Clopper–Pearson interval: with `confidence`, at most this share is bad after `bad` of `drawn`. */
export function upperBound(bad: number, drawn: number, confidence = 0.95): number {
  if (drawn === 0 || bad >= drawn) return 1;
  let low = bad / drawn;
  let high = 1;
  // P(X ≤ bad | p) falls in p: bisect to the p where it equals 1 − confidence. 60 halvings are below double precision.
  for (let i = 0; i < 60; i += 1) {
    const p = (low + high) / 2;
    if (binomialCdf(bad, drawn, p) > 1 - confidence) low = p;
    else high = p;
  }
  return high;
}

function binomialCdf(k: number, n: number, p: number): number {
  let logTerm = n * Math.log1p(-p);
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= k; i += 1) {
    logTerm += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(logTerm);
  }
  return sum;
}

/** Probability that a draw of `drawn` rows shows at least one of `bad` among `rows` (hypergeometric). */
export function detectionProbability(rows: number, bad: number, drawn: number): number {
  if (bad === 0 || drawn === 0) return 0;
  let missed = 1;
  for (let i = 0; i < drawn; i += 1) missed *= Math.max(0, rows - bad - i) / (rows - i);
  return 1 - missed;
}

/** Rows to draw so that a clean draw bounds the bad share below `share` with `confidence`. */
export function samplesToBound(share: number, confidence: number): number {
  return Math.ceil(Math.log(1 - confidence) / Math.log1p(-share));
}
