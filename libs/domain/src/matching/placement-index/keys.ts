import { unitsToJson } from '../../units/units.ts';
import type { Ask, Candidate } from '../ask.ts';
import { fitsMemory } from '../model-memory.ts';
import { loadSeconds } from '../served-model.ts';

/** A candidate is never changed in its facts, and put again with every change of its load. */
const KNOWN = new WeakMap<Candidate, string>();

/** All that an offer says and a record remembers: nodes with equal facts are alike but for what is free. */
export function factsKey(node: Candidate): string {
  const known = KNOWN.get(node);
  if (known !== undefined) return known;
  const key = JSON.stringify([
    node.region,
    node.pools,
    node.isolation,
    node.reputation,
    unitsToJson(node.gpuRates),
    node.gpus.map((gpu) => [gpu.model, gpu.vramMib, gpu.milli]),
    node.models.map((model) => [
      model.name,
      model.kind ?? null,
      model.digest,
      model.engineClass,
      model.loaded,
      model.rowsPerSecond,
      model.isClaimed ?? false,
      // What it would take is no difference between nodes that have it.
      loadSeconds(model),
      fitsMemory(model, node),
      // JSON has no infinity.
      model.loaded || model.evictS === undefined ? null : String(model.evictS),
      model.capabilities ?? [],
      unitsToJson(model.rates),
    ]),
  ]);
  KNOWN.set(node, key);
  return key;
}

/** All that an ask wants, but for the one task that it stands for. */
export function taskClassKey(ask: Ask): string {
  return JSON.stringify([
    ask.model,
    ask.modelKind ?? null,
    ask.gpuModels,
    ask.gpus,
    ask.gpuMilli,
    ask.vramMib,
    ask.cpuMilli,
    ask.memoryMib,
    ask.capabilities,
    ask.regions,
    ask.pools,
    ask.isolation,
    ask.reputationFloor,
    ask.deadlineInMs,
    ask.alone ?? false,
    // JSON has no infinity.
    ask.loadGainS === undefined ? null : String(ask.loadGainS),
    unitsToJson(ask.rateCaps),
  ]);
}

/** The same, whatever time is left, and whatever a load would save. */
export function kindKey(ask: Ask): string {
  return taskClassKey({ ...ask, deadlineInMs: 0, loadGainS: 0, alone: false });
}
