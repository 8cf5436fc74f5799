import { unitsToJson, type Rates } from '../units/units.ts';
import { ISOLATIONS, type Ask, type Candidate, type CandidateGpu } from './ask.ts';
import { saysMemory } from './model-memory.ts';
import { costsNothing, countedKinds, MODEL_RULES, modelSeconds, servedModel, withinCaps } from './served-model.ts';

/** A node works on one lease and may hold the next, so that it never waits for a round trip. */
export const LEASES_AHEAD = 2;
/** Unaccepted rows per node: bounds what one liar can void and one death can delay. */
export const ROWS_UNACCEPTED_MAX = 2_048;
export interface Constraint {
  readonly name: string;
  /**
   * What it reads of the node. 'offer': facts that stand while the offer does; 'room': what is free now; 'moment': the node's
   * own state, whatever is asked; 'pair': this node and this task. The placement index evaluates each kind where it changes.
   */
  readonly reads: 'offer' | 'room' | 'moment' | 'pair';
  /** Who can lift it: the requester by asking for less, or time. Null: nobody, it is what the work is. */
  readonly lifted: 'by-asking-less' | 'by-waiting' | null;
  /** What a person reads: the requirement, not the failure; with `kept`, the nodes that it keeps away, by their figures where it helps. */
  readonly says: (ask: Ask, kept?: readonly Candidate[]) => string;
  /** What of an ask it looks at, beside its model: to it, asks that are equal in that are one. Absent: nothing, or, of a pair, the job. */
  readonly wish?: (ask: Ask) => string | number | boolean;
  /** Total: each constraint judges alone, whatever the others say. */
  readonly holds: (ask: Ask, node: Candidate) => boolean;
  /** Milliseconds until it holds by itself, where that is known. */
  readonly endsInMs?: (ask: Ask, node: Candidate) => number;
}

/** The rates that an ask would pay at a node. */
export function ratesFor(ask: Ask, node: Candidate): Rates {
  return ask.model === null ? node.gpuRates : (servedModel(ask, node)?.rates ?? {});
}

/** Seconds until a node has done `rows` rows of an ask, from a cold start if it must. A node nobody has measured counts as fast. */
export function secondsFor(ask: Ask, node: Candidate, rows: number): number {
  const model = servedModel(ask, node);
  return model === undefined ? 0 : modelSeconds(model, rows);
}

/** Whether neither time nor its owner keeps a node from all work; it may still be full. */
export function takesWork({ draining, benchedForMs }: Pick<Candidate, 'draining' | 'benchedForMs'>): boolean {
  return !draining && benchedForMs <= 0;
}

const allows = (list: readonly string[], has: readonly string[]): boolean =>
  list.length === 0 || has.some((one) => list.includes(one));

const anyOf = (list: readonly string[]): string => (list.length === 0 ? 'any' : list.join(' or '));

/** A machine with GPUs of several kinds is judged by its least: an owner who wants to lend the best lists it as a node of its own. */
const everyGpu = (node: Candidate, fits: (gpu: CandidateGpu) => boolean): boolean =>
  node.gpus.length > 0 && node.gpus.every(fits);

/** What the engine that would do the work can do; any engine of the node where the work brings its own model. */
export function capabilitiesFor(ask: Ask, node: Candidate): readonly string[] {
  if (ask.model === null) return node.models.flatMap((model) => model.capabilities ?? []);
  return servedModel(ask, node)?.capabilities ?? [];
}

/**
 * Every reason a node can be left out, in the order in which they are counted. What the work is comes first, then what a
 * requester can change, then what time changes: so `explain` names first what somebody can do something about.
 */
export const CONSTRAINTS: readonly Constraint[] = [
  {
    name: 'model',
    reads: 'offer',
    lifted: null,
    says: (ask) =>
      ask.model === null
        ? 'lends GPU time'
        : `serves ${ask.model}${ask.modelKind === undefined ? '' : ` (${ask.modelKind})`}`,
    holds: (ask, node) => ask.model === null || servedModel(ask, node) !== undefined,
  },
  {
    name: 'model-memory',
    reads: 'offer',
    // A smaller model is another model.
    lifted: null,
    says: (ask, kept = []) => {
      const short = kept.flatMap((node) => {
        const model = servedModel(ask, node);
        return model === undefined ? [] : [{ model, roomMib: node.modelRoomMib }];
      });
      return saysMemory(ask.model ?? 'its model', short);
    },
    holds: (ask, node) => {
      const model = servedModel(ask, node);
      return model === undefined || MODEL_RULES.memory(ask, model, node);
    },
  },
  {
    name: 'capability',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `has an engine that can do ${ask.capabilities.join(' and ') || 'anything'}`,
    wish: (ask) => JSON.stringify(ask.capabilities),
    holds: (ask, node) => ask.capabilities.every((capability) => capabilitiesFor(ask, node).includes(capability)),
  },
  {
    name: 'gpu-model',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `has a GPU of model ${anyOf(ask.gpuModels)}`,
    wish: (ask) => JSON.stringify(ask.gpuModels),
    holds: (ask, node) => ask.gpuModels.length === 0 || everyGpu(node, (gpu) => ask.gpuModels.includes(gpu.model)),
  },
  {
    name: 'gpu-count',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `has ${ask.gpus} GPUs or more`,
    wish: (ask) => ask.gpus,
    holds: (ask, node) => node.gpus.length >= ask.gpus,
  },
  {
    name: 'gpu-share',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `lends ${ask.gpuMilli} thousandths or more of each GPU`,
    wish: (ask) => ask.gpuMilli,
    holds: (ask, node) => ask.gpuMilli === 0 || everyGpu(node, (gpu) => gpu.milli >= ask.gpuMilli),
  },
  {
    name: 'vram',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `has ${ask.vramMib} MiB of GPU memory or more`,
    wish: (ask) => ask.vramMib,
    holds: (ask, node) => ask.vramMib === 0 || everyGpu(node, (gpu) => gpu.vramMib >= ask.vramMib),
  },
  {
    name: 'region',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `stands in region ${anyOf(ask.regions)}`,
    wish: (ask) => JSON.stringify(ask.regions),
    holds: (ask, node) => allows(ask.regions, [node.region]),
  },
  {
    name: 'pool',
    reads: 'offer',
    // Pools have no members yet: nobody can name one.
    lifted: null,
    says: (ask) => (ask.pools.length === 0 ? 'works for others than its pool' : `belongs to pool ${anyOf(ask.pools)}`),
    // What a pool's node does for nothing, it does for the pool's members: on the market nothing would stand behind it.
    wish: (ask) => JSON.stringify([ask.pools, countedKinds(ask.rateCaps)]),
    holds: (ask, node) =>
      ask.pools.length === 0
        ? node.pools.length === 0 || !costsNothing(ask, ratesFor(ask, node))
        : allows(ask.pools, node.pools),
  },
  {
    name: 'isolation',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `isolates work by ${ask.isolation} or better`,
    wish: (ask) => ask.isolation,
    holds: (ask, node) => ISOLATIONS.indexOf(node.isolation) >= ISOLATIONS.indexOf(ask.isolation),
  },
  {
    name: 'reputation',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: (ask) => `has a reputation of ${ask.reputationFloor} or better`,
    wish: (ask) => ask.reputationFloor,
    holds: (ask, node) => node.reputation >= ask.reputationFloor,
  },
  {
    name: 'price',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: () => "asks no more than the job's price cap",
    wish: (ask) => JSON.stringify(unitsToJson(ask.rateCaps)),
    holds: (ask, node) => withinCaps(ratesFor(ask, node), ask.rateCaps),
  },
  {
    name: 'deadline',
    reads: 'offer',
    lifted: 'by-asking-less',
    says: () => 'is ready for a row before the deadline',
    wish: (ask) => ask.deadlineInMs,
    holds: (ask, node) => secondsFor(ask, node, 1) * 1_000 <= ask.deadlineInMs,
  },
  {
    name: 'scheduler',
    reads: 'pair',
    // How nodes are divided is the market's own affair.
    lifted: null,
    says: () => 'belongs to the scheduler that has most of the nodes it could begin on: a batch begins on those of one',
    holds: (ask, node) => ask.alone !== true || node.isElsewhere !== true,
  },
  {
    name: 'warm-wait',
    reads: 'offer',
    lifted: 'by-waiting',
    says: (ask) =>
      `has ${ask.model ?? 'no model'} loaded, or room for it at less than the ${Math.round(ask.loadGainS ?? 0)} s of waiting that loading it saves`,
    wish: (ask) => ask.loadGainS ?? '',
    holds: (ask, node) => {
      const model = servedModel(ask, node);
      return model === undefined || MODEL_RULES.warmWait(ask, model);
    },
  },
  {
    name: 'room',
    reads: 'room',
    lifted: 'by-waiting',
    says: (ask) =>
      `has ${ask.gpus} x ${ask.gpuMilli} thousandths of a GPU, and the processor and memory for it, free now`,
    wish: (ask) => [ask.gpus, ask.gpuMilli, ask.cpuMilli, ask.memoryMib].join(' '),
    holds: (ask, node) =>
      node.gpus.filter((gpu) => gpu.freeMilli >= ask.gpuMilli).length >= ask.gpus &&
      node.cpuFreeMilli >= ask.cpuMilli &&
      node.memoryFreeMib >= ask.memoryMib,
  },
  {
    name: 'alone',
    reads: 'room',
    lifted: 'by-waiting',
    says: () => 'has nothing else under way',
    wish: (ask) => ask.alone === true,
    holds: (ask, node) => ask.alone !== true || node.leasesActive === 0,
  },
  {
    name: 'benched',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'is not benched after a failed audit',
    holds: (_ask, node) => node.benchedForMs <= 0,
    endsInMs: (_ask, node) => node.benchedForMs,
  },
  {
    name: 'draining',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'takes new work',
    holds: (_ask, node) => !node.draining,
  },
  {
    name: 'resting',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'does not rest after it refused, broke or kept a lease, or left an audit unanswered',
    holds: (_ask, node) => (node.rest?.forMs ?? 0) <= 0,
    endsInMs: (_ask, node) => node.rest?.forMs ?? 0,
  },
  {
    name: 'scheduler-full',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'is served by a scheduler that has room for another lease',
    holds: (_ask, node) => node.isSchedulerFull !== true,
  },
  {
    name: 'reserved',
    reads: 'pair',
    lifted: 'by-waiting',
    says: () => 'is not kept for a batch that begins on several nodes at once',
    holds: (ask, node) => (node.reserved?.forMs ?? 0) <= 0 || node.reserved?.jobId === ask.jobId,
    endsInMs: (_ask, node) => node.reserved?.forMs ?? 0,
  },
  {
    name: 'busy',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'has a free slot',
    holds: (_ask, node) => node.leasesActive < LEASES_AHEAD,
  },
  {
    name: 'unaccepted',
    reads: 'moment',
    lifted: 'by-waiting',
    says: () => 'has few enough rows waiting for verification',
    holds: (_ask, node) => node.rowsUnaccepted < ROWS_UNACCEPTED_MAX,
  },
  {
    name: 'avoided',
    reads: 'pair',
    lifted: 'by-waiting',
    says: () => 'did not just lose this task',
    holds: (ask, node) => ask.avoidNode !== node.nodeId,
    endsInMs: (ask) => ask.avoidForMs ?? 0,
  },
];

/** The first constraint that keeps `node` from `ask`, or null when it fits. */
export function obstacle(ask: Ask, node: Candidate): Constraint | null {
  return CONSTRAINTS.find((constraint) => !constraint.holds(ask, node)) ?? null;
}

const OF_OFFER = CONSTRAINTS.filter(({ reads }) => reads === 'offer');

/** Whether a node could serve an ask, whether or not it has room for it now: as the placement counts those who share its rows. */
export function couldServe(ask: Ask, node: Candidate): boolean {
  return takesWork(node) && OF_OFFER.every(({ holds }) => holds(ask, node));
}
