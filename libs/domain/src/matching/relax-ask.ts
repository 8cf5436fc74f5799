import { UNIT_KINDS, type Rates } from '../units/units.ts';
import type { Ask, Candidate, CandidateGpu } from './ask.ts';
import { capabilitiesFor, CONSTRAINTS, ratesFor, secondsFor } from './constraints.ts';
import { askableDeadlineMs, askableNames, askableReputation, isGpuModel, isRegion } from './wishes.ts';

/** The ask with just so much less in it that `node` meets what the requester can change, by what a request can say. What only time lifts stays. */
export function askingLess(ask: Ask, node: Candidate): Ask {
  const capabilities = capabilitiesFor(ask, node);
  const lacks = (name: string): boolean => CONSTRAINTS.some((one) => one.name === name && !one.holds(ask, node));
  return {
    ...askingFewerGpus(ask, node),
    vramMib: leastOf(ask.vramMib, node, (gpu) => gpu.vramMib),
    capabilities: ask.capabilities.filter((capability) => capabilities.includes(capability)),
    gpuModels: lacks('gpu-model')
      ? askableNames(
          widened(
            ask.gpuModels,
            node.gpus.map((gpu) => gpu.model),
          ),
          isGpuModel,
        )
      : ask.gpuModels,
    regions: lacks('region') ? askableNames(widened(ask.regions, [node.region]), isRegion) : ask.regions,
    pools: lacks('pool') ? widened(ask.pools, node.pools) : ask.pools,
    isolation: lacks('isolation') ? node.isolation : ask.isolation,
    reputationFloor: lacks('reputation') ? askableReputation(node.reputation) : ask.reputationFloor,
    rateCaps: lacks('price') ? raised(ask.rateCaps, ratesFor(ask, node)) : ask.rateCaps,
    deadlineInMs: lacks('deadline')
      ? Math.max(ask.deadlineInMs, askableDeadlineMs(secondsFor(ask, node, 1)) ?? 0)
      : ask.deadlineInMs,
  };
}

/** With as many GPUs, and as much of each, as a node lends: of all wishes those that room on it is asked for by. */
export function askingFewerGpus(ask: Ask, node: Candidate): Ask {
  return {
    ...ask,
    gpus: Math.min(ask.gpus, node.gpus.length),
    gpuMilli: leastOf(ask.gpuMilli, node, (gpu) => gpu.milli),
  };
}

/** Not more than the least that any GPU of a node has; nothing where it has none. */
function leastOf(asked: number, { gpus }: Candidate, of: (gpu: CandidateGpu) => number): number {
  return gpus.length === 0 ? 0 : gpus.reduce((least, gpu) => Math.min(least, of(gpu)), asked);
}

/** An allow-list that also allows what is there; no list at all where nothing is there to name. */
function widened(list: readonly string[], also: readonly string[]): readonly string[] {
  return also.length === 0 ? [] : [...new Set([...list, ...also])];
}

function raised(caps: Rates, rates: Rates): Rates {
  const kinds = UNIT_KINDS.filter((kind) => caps[kind] !== undefined);
  const needed = kinds.length > 0 ? kinds : UNIT_KINDS;
  return Object.fromEntries(
    needed.map((kind) => {
      const [cap, rate] = [caps[kind] ?? 0n, rates[kind] ?? 0n];
      return [kind, rate > cap ? rate : cap];
    }),
  );
}
