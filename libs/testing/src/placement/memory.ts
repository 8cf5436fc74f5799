import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { demandOf, KeptDemand, KeptFleet, type NodeRecord, type OpenDemand } from '@freehold/market';
import type { Offer } from '@freehold/protocol';

const CLOCK = { nowMs: () => 0 };

const COLLECTIONS_MAX = 8;

/** Bytes of heap and array buffers in use, collected until no more goes: what was let go of before is nobody's gain afterwards. */
export function bytesInUse(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < COLLECTIONS_MAX; round += 1) {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    if (heapUsed + arrayBuffers >= least) break;
    least = heapUsed + arrayBuffers;
  }
  return least;
}

/** Fills something, and says how many bytes more are in use while it stands. */
export async function bytesOf<T>(fill: () => T | Promise<T>): Promise<{ readonly made: T; readonly bytes: number }> {
  // What called until now is off the stack by then, and holds nothing any more.
  await setImmediate();
  const before = bytesInUse();
  const made = await fill();
  await setImmediate();
  return { bytes: bytesInUse() - before, made };
}

/** The scheduler's own memory of rows that wait, filled as from Postgres. A job costs the same however many its rows. */
export async function keptDemandOf(rows: number, rowsPerJob: number): Promise<KeptDemand> {
  const jobs = Math.ceil(rows / rowsPerJob);
  const nameOf = (i: number): string => `batch_${String(i).padStart(30, '0')}`;
  const page = (after: string | null, limit: number): readonly OpenDemand[] => {
    const from = after === null ? 0 : Number(after.slice('batch_'.length)) + 1;
    const count = Math.min(limit, jobs - from);
    return Array.from({ length: count }, (_, i) => asRead(nameOf(from + i), from + i, rowsPerJob));
  };
  const demand = new KeptDemand({
    leases: { demandOf: async () => [], demandPage: async (after, limit) => page(after, limit) },
    clock: CLOCK,
  });
  await demand.refresh();
  return demand;
}

/** Strings of its own, as a driver makes them of every row that it reads. */
function asRead(jobId: string, i: number, rowCount: number): OpenDemand {
  const text = JSON.stringify({
    jobId,
    orgId: `org_${i % 500}`,
    kind: 'batch',
    endpoint: '/v1/chat/completions',
    model: 'freehold-tiny',
    wearsAdapter: false,
    region: null,
    poolId: null,
    verify: 'spot',
    priority: 0,
    deadlineInMs: 86_400_000 - i,
    ageMs: i,
    nextRow: 0,
    rowCount,
    queued: [],
  });
  return { ...(JSON.parse(text) as OpenDemand), rateCaps: { inputToken: 200_000n, outputToken: 400_000n } };
}

/** The scheduler's own memory of so many connected nodes, after a first decision; their offers are the connections' and come on top. */
export async function keptFleetOf(offers: readonly Offer[]): Promise<KeptFleet> {
  const nodes = offers.map((offer) => ({
    id: offer.node,
    address: offer.address,
    offer,
    freeSlots: 1,
    busyChats: 0,
    draining: false,
    leases: [],
    lastHeardMs: 0,
  }));
  const fleet = new KeptFleet({
    leases: { nodeRecords: async (ids) => new Map(ids.map((id, i) => [id, recordOf(id, i)])) },
    link: { nodes: () => nodes, changes: () => ({ mark: 0, nodes: null }) },
    clock: CLOCK,
    resting: () => false,
    measured: () => undefined,
  });
  await fleet.refresh(() => true);
  fleet.place([demandOf(asRead('batch_first', 0, 1))], 1);
  return fleet;
}

/** Offers of nodes with one model each, whose measured speeds and records differ. */
export function offersOf(count: number): readonly Offer[] {
  return Array.from({ length: count }, (_, i) => {
    const address = `0x${i.toString(16).padStart(40, '0')}`;
    const rates = { inputToken: String(100_000 + (i % 20) * 1_000), outputToken: '200000' };
    const caps = { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: true, embeddings: false };
    const model = {
      name: 'freehold-tiny',
      digest: 'sha256:0',
      kind: 'chat',
      quantisation: 'Q8_0',
      contextTokens: 1_024,
    };
    const text = JSON.stringify({
      v: 1,
      node: `16Uiu2HAm${String(i).padStart(44, 'a')}`,
      address,
      payout: address,
      seq: 1,
      expiresAt: 2_000_000_000,
      region: ['eu-west', 'us-east', 'ap-south'][i % 3],
      isolation: 'none',
      gpus: [],
      cpuMilli: 8_000,
      memoryMib: 16_384,
      diskMib: 65_536,
      engines: [
        { class: 'gguf/1', models: [{ ...model, slots: 4, loaded: true, caps, rates, rowsPerSecond: 1 + (i % 40) }] },
      ],
      pools: [],
      noticeS: 0,
      exposureMax: '1000000',
      chatSharePercent: 50,
    });
    return JSON.parse(text) as Offer;
  });
}

function recordOf(nodeId: string, i: number): NodeRecord {
  return {
    nodeId,
    payout: `0x${i.toString(16).padStart(40, '0')}`,
    rowsAccepted: 1_000 + i,
    rowsAudited: 200 + (i % 50),
    rowsBad: 0,
    leasesLost: i % 3,
    benchedForMs: 0,
    benchedWhy: null,
    speed: { 'sha256:0': 1 + (i % 40) },
    rowsInFlight: 0,
    leasesInFlight: 0,
  };
}
