import type { Rates } from '../units/units.ts';
import { knownRows } from '../verification/known-rows.ts';
import type { VerifyLevel } from '../jobs/job-state.ts';

/** How a node keeps a requester's work away from the rest of the machine, weakest first. */
export const ISOLATIONS = ['none', 'bwrap', 'container', 'gvisor', 'kata', 'cvm'] as const;
export type Isolation = (typeof ISOLATIONS)[number];

/** What a model does, in the words of offers. */
export type ModelKind = 'chat' | 'embedding' | 'fine-tune';

/** What an engine can do beside answering. */
export const ENGINE_CAPABILITIES = ['tokens', 'logprobs', 'promptLogprobs', 'seed', 'lora', 'embeddings'] as const;
export type EngineCapability = (typeof ENGINE_CAPABILITIES)[number];

/** What work needs of a node. Empty lists allow everything; zero asks for nothing. */
export interface Needs {
  readonly gpuModels: readonly string[];
  /** GPUs to have for itself. 0: the work runs in an engine that is already there. */
  readonly gpus: number;
  /** Of each GPU; 1,000 is a whole one. */
  readonly gpuMilli: number;
  /** Of each GPU. */
  readonly vramMib: number;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  readonly capabilities: readonly EngineCapability[];
  readonly regions: readonly string[];
  readonly pools: readonly string[];
  /** At least this. */
  readonly isolation: Isolation;
  /** 0..1, see {@link reputationOf}. */
  readonly reputationFloor: number;
}

/** What a requester may ask of the node itself, beside where it stands. */
export type NodeNeeds = Pick<Needs, 'gpuModels' | 'gpus' | 'gpuMilli' | 'vramMib' | 'isolation' | 'reputationFloor'>;

/** Work that runs anywhere. */
export const ANYWHERE: Needs = {
  gpuModels: [],
  gpus: 0,
  gpuMilli: 0,
  vramMib: 0,
  cpuMilli: 0,
  memoryMib: 0,
  capabilities: [],
  regions: [],
  pools: [],
  isolation: 'none',
  reputationFloor: 0,
};

/** Nothing is asked of the node. */
export const ANY_NODE: NodeNeeds = {
  gpuModels: [],
  gpus: 0,
  gpuMilli: 0,
  vramMib: 0,
  isolation: 'none',
  reputationFloor: 0,
};

/** What a job asks of a node, for one task. */
export interface Ask extends Needs {
  readonly jobId: string;
  /** Null: it brings its own, and pays for GPU time. */
  readonly model: string | null;
  /** What the model has to do; absent: whatever a model of that name does. */
  readonly modelKind?: ModelKind;
  readonly verify: VerifyLevel;
  /** Highest rates the job admits. */
  readonly rateCaps: Rates;
  /** Milliseconds from the snapshot. */
  readonly deadlineInMs: number;
  /** Only a node that has nothing else under way will do: it is a member of a gang. */
  readonly alone?: boolean;
  /** The node that lost or refused this task last, left out for one round when another fits. */
  readonly avoidNode?: string | null;
  /** How long it is left out at most. */
  readonly avoidForMs?: number;
  /** Tokens of this task's prompt that a node has computed before and still holds, by node. */
  readonly cachedOn?: ReadonlyMap<string, number>;
  /** Seconds of waiting saved if one more node loads the model (`warmth.ts`); absent: nobody reckoned, any node may load it. */
  readonly loadGainS?: number;
}

/** Time left is rounded down to this many binary digits: a deadline that comes nearer is the same wish for a while. */
const DEADLINE_DIGITS = 6;

/** The ask as the placement takes it: its class stands while its time left has the same first digits. Rounded down, never later than it is. */
export function inClass(ask: Ask): Ask {
  const { deadlineInMs } = ask;
  if (!(deadlineInMs > 0) || !Number.isFinite(deadlineInMs)) return ask;
  const step = 2 ** (Math.floor(Math.log2(deadlineInMs)) - DEADLINE_DIGITS + 1);
  return { ...ask, deadlineInMs: Math.floor(deadlineInMs / step) * step };
}

/** One model that a node serves. */
export interface ServedModel {
  readonly name: string;
  /** Absent: whatever it is asked for. */
  readonly kind?: ModelKind;
  readonly digest: string;
  readonly engineClass: string;
  readonly loaded: boolean;
  readonly rates: Rates;
  /** Measured where we have measured, claimed by the offer until then. */
  readonly rowsPerSecond: number;
  /** Nobody has measured it: its speed is its owner's word alone. */
  readonly isClaimed?: boolean;
  readonly capabilities?: readonly EngineCapability[];
  /** Memory that it takes when it is loaded (`model-memory.ts`). Absent: nobody knows. */
  readonly memoryMib?: number;
  /** Seconds until a model that is not loaded answers, measured or estimated. */
  readonly loadS?: number;
  /** Seconds of others' waiting that it costs to load it here: what has to go is wanted again (`warmth.ts`). Absent: there is room. */
  readonly evictS?: number;
}

export interface CandidateGpu {
  readonly model: string;
  readonly vramMib: number;
  /** What the owner lends of it. */
  readonly milli: number;
  /** What of that is free now. */
  readonly freeMilli: number;
}

/** A node that gets nothing new for some seconds. */
export interface Rest {
  readonly why: string;
  readonly forMs: number;
}

/** A node that is kept for a gang until it begins there, or the time is up. */
export interface KeptFor {
  readonly jobId: string;
  readonly forMs: number;
  /** Until it begins there, about; what the node does until then is to be over by then. Absent: nobody says. */
  readonly startsInMs?: number;
}

/** A node as one decision sees it: a snapshot, never a live object. */
export interface Candidate {
  readonly nodeId: string;
  readonly region: string;
  readonly pools: readonly string[];
  readonly models: readonly ServedModel[];
  readonly gpus: readonly CandidateGpu[];
  readonly cpuFreeMilli: number;
  readonly memoryFreeMib: number;
  /** Memory that its engines have for models: what its owner lends of the GPUs', or its own where it has none. Absent: nobody knows. */
  readonly modelRoomMib?: number;
  readonly isolation: Isolation;
  /** For work that brings its own model. */
  readonly gpuRates: Rates;
  /** 0..1, see {@link reputationOf}. */
  readonly reputation: number;
  readonly draining: boolean;
  /** Absent: its scheduler leaves it no rest. */
  readonly rest?: Rest | null;
  /** For those who explain: who decides keeps nodes himself. Absent: it is kept for nobody. */
  readonly reserved?: KeptFor | null;
  /** For those who explain: its scheduler, by a number; those without one are taken for one scheduler's. */
  readonly scheduler?: number;
  /** For those who explain: its scheduler has fewer nodes of a gang than another one, which begins it or nobody. */
  readonly isElsewhere?: boolean;
  /** Its scheduler runs as many leases as one process does. */
  readonly isSchedulerFull?: boolean;
  readonly benchedForMs: number;
  readonly benchedWhy: string | null;
  readonly rowsAccepted: number;
  /** Leases leased or running now. */
  readonly leasesActive: number;
  /** Rows leased, running or delivered, and not accepted yet. */
  readonly rowsUnaccepted: number;
}

/** A node with nothing to lend, none of it used, and no record: what fleets of tests and benches begin with. */
export const EMPTY_NODE: Omit<Candidate, 'nodeId'> = {
  region: 'eu',
  pools: [],
  models: [],
  gpus: [],
  cpuFreeMilli: 0,
  memoryFreeMib: 0,
  isolation: 'none',
  gpuRates: {},
  reputation: 1,
  draining: false,
  benchedForMs: 0,
  benchedWhy: null,
  rowsAccepted: 0,
  leasesActive: 0,
  rowsUnaccepted: 0,
};

/** A node's record as a number: a newcomer stands at 0.9, one proven bad row weighs like a hundred good ones. */
const PRIOR_GOOD = 9;
const PRIOR_ALL = 10;
const BAD_ROW_WEIGHT = 100;
/** A lost lease is an infrastructure fault: it costs score, about a newcomer's lease of rows, and never money. */
const LOST_LEASE_WEIGHT = 16;

/**
 * Share of a node's work that came through, between 0 and 1. No more than is known to be good of what came: what nobody looked
 * at makes up for lost leases, and for nothing else.
 */
export function reputationOf(record: {
  readonly rowsAccepted: number;
  readonly rowsAudited: number;
  readonly rowsBad: number;
  readonly leasesLost: number;
}): number {
  const bad = BAD_ROW_WEIGHT * record.rowsBad;
  const lost = LOST_LEASE_WEIGHT * record.leasesLost;
  return Math.min(shareOf(record.rowsAccepted, bad + lost), shareOf(knownRows(record), bad));
}

function shareOf(good: number, failed: number): number {
  return (good + PRIOR_GOOD) / (good + PRIOR_ALL + failed);
}
