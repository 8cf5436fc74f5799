import { chance } from '@freehold/domain';

export interface TimedRequest {
  readonly atS: number;
  /** Seconds that it holds a slot. */
  readonly serviceS: number;
}

export interface ModelRequest extends TimedRequest {
  readonly model: number;
}

/** Each request's model, the k-th most wanted k times less than the first; from `turnAtS` on in the opposite order. */
export function withModels(
  work: readonly TimedRequest[],
  count: number,
  seed: number,
  turnAtS = Number.POSITIVE_INFINITY,
): readonly ModelRequest[] {
  const rng = chance(seed);
  const weights = Array.from({ length: count }, (_, k) => 1 / (k + 1));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  return work.map((one) => {
    let left = rng.unit() * whole;
    const drawn = Math.max(
      0,
      weights.findIndex((weight) => (left -= weight) < 0),
    );
    return { atS: one.atS, serviceS: one.serviceS, model: one.atS < turnAtS ? drawn : count - 1 - drawn };
  });
}

/** The same, and now and then many requests for one model at once. Models are drawn evenly: mostly those that few nodes hold. */
export function withBursts(
  work: readonly ModelRequest[],
  bursts: { readonly everyS: number; readonly size: number; readonly serviceS: number; readonly models: number },
  seed: number,
): readonly ModelRequest[] {
  const { everyS, size, serviceS, models } = bursts;
  const rng = chance(seed);
  const all = [...work];
  for (let atS = everyS; atS < (work.at(-1)?.atS ?? 0); atS += everyS) {
    const model = rng.below(models);
    for (let i = 0; i < size; i += 1) all.push({ atS, serviceS: -serviceS * Math.log(1 - rng.unit()), model });
  }
  return all.sort((a, b) => a.atS - b.atS);
}

/** Models on nodes as requests until `knownUntilS` ask for them, each on one node at least: the best that is possible without knowing when. */
export function heldAtFirst(
  work: readonly ModelRequest[],
  nodes: number,
  models: number,
  perNode: number,
  knownUntilS: number,
): readonly (readonly number[])[] {
  const wanted = Array.from({ length: models }, () => 0);
  for (const { atS, model, serviceS } of work) if (atS < knownUntilS) wanted[model] = (wanted[model] ?? 0) + serviceS;
  const held = Array.from({ length: nodes }, (): number[] => []);
  const copies = Array.from({ length: models }, () => 0);
  const need = (model: number): number => {
    const have = copies[model] ?? 0;
    return have === 0 ? Number.POSITIVE_INFINITY : (wanted[model] ?? 0) / have;
  };
  for (let at = 0; at < nodes * perNode; at += 1) {
    const node = held[at % nodes];
    let best = -1;
    for (let model = 0; model < models; model += 1)
      if (node?.includes(model) === false && (best === -1 || need(model) > need(best))) best = model;
    if (best === -1) continue;
    node?.push(best);
    copies[best] = (copies[best] ?? 0) + 1;
  }
  return held;
}
