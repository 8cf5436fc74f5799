/**
 * The house's road from accepted to leased: rows in, decisions by the index, leases by `LeaseStore.grant` under a held shard's epoch,
 * all on disk. Not in it, of what a scheduler does beside: reading the file, the demand and what moved since its last decision, and
 * keeping prices, warmth and stragglers (`TaskPlacement`); bench latency runs all of it.
 */
import { randomBytes } from 'node:crypto';
import { ANYWHERE, EMPTY_NODE, FragmentationGauge, packingOf, PlacementIndex } from '@freehold/domain';
import { batchId, drawNonces } from '@freehold/market';
import {
  grantCredits,
  migrate,
  openDatabase,
  PgJobStore,
  PgLeaseStore,
  PgShards,
  runDoctor,
} from '@freehold/persistence';
import { bareOffer } from '../house/bare-offer.mjs';

/**
 * @import { Ask, Choice, TaskClass } from '@freehold/domain'
 * @import { LeaseWish } from '@freehold/market'
 */
/** @typedef {Awaited<ReturnType<typeof openPlacements>>} PlacementHouse */

/** Four tasks a GPU, and room for a hundred times what is under way. */
const FLEET = { nodes: 500, gpus: 8, shareMilli: 250 };
const WINDOW = 1_000;
const LEASE_MS = 600_000;
const ORG = 'org_bench';
const KEY = 'key_bench';
const FILE = 'file-00000000';
const DAY_MS = 86_400_000;
/** Grants on their way to the disk while the next is decided. */
const IN_FLIGHT = 2;

/** @param {string} url Of a database of its own. */
export async function openPlacements(url, fleet = FLEET) {
  const database = await openDatabase({ url, poolSize: 5 });
  await migrate(database);
  const store = new PgLeaseStore(database);
  await database.query('INSERT INTO org (id, name) VALUES ($1, $1)', [ORG]);
  await database.query('INSERT INTO api_key (id, org_id, hash, hint) VALUES ($1, $2, $3, $1)', [
    KEY,
    ORG,
    randomBytes(32),
  ]);
  await database.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'batch', 'in', 1, $3)`,
    [FILE, ORG, randomBytes(32)],
  );
  await grantCredits(database, ORG, 1_000_000_000n, 'bench');
  const nodeIds = Array.from({ length: fleet.nodes }, (_, i) => `node${i}`.padEnd(24, 'x'));
  for (const [i, node] of nodeIds.entries())
    await store.rememberNode(bareOffer(node, (i + 1).toString(16).padStart(40, '0'), DAY_MS / 1_000));
  // Nobody else submits at that moment: a window would only wait.
  const jobs = new PgJobStore(database, () => undefined, 0);
  // Every grant is fenced by the epoch of a shard that is held, as a scheduler's is.
  const shards = new PgShards(database);
  const close = async () => {
    await shards.close();
    await database.close();
  };
  const placed = { tasks: 0 };
  return { database, store, jobs, held: await shards.hold(1, 1), index: indexOf(nodeIds, fleet), fleet, placed, close };
}

/**
 * @param {readonly string[]} nodeIds
 * @param {typeof FLEET} fleet
 */
function indexOf(nodeIds, { gpus, shareMilli }) {
  const shape = { gpus: 1, gpuMilli: shareMilli, cpuMilli: 0, memoryMib: 0, gpuModels: [] };
  const mix = [{ ...shape, share: 1 }];
  const index = new PlacementIndex(nodeIds.length, {
    gauge: new FragmentationGauge(mix),
    packing: packingOf(mix),
    strandedMilliCost: 1,
  });
  const gpu = { model: 'T4', vramMib: 16_384, milli: 1_000, freeMilli: 1_000 };
  for (const nodeId of nodeIds) {
    index.put({
      ...EMPTY_NODE,
      nodeId,
      gpus: Array.from({ length: gpus }, () => gpu),
      gpuRates: { gpuMillisecond: 10n },
    });
  }
  return index;
}

/**
 * Accepts `count` rows in windows of {@link WINDOW} and leases each as a task of `rowsPerTask`. Returns what was leased.
 *
 * @param {PlacementHouse} house
 * @param {number} count
 * @param {number} rowsPerTask
 * @param options.endsAtOnce Whether the work ends as soon as its lease is written; else all of it stands until the last is.
 */
export async function placeRows(house, count, rowsPerTask, { endsAtOnce = true } = {}) {
  /** @type {Ask} */
  const ask = {
    ...ANYWHERE,
    jobId: '',
    model: null,
    verify: 'off',
    rateCaps: { gpuMillisecond: 10n },
    deadlineInMs: 3_600_000,
    gpus: 1,
    gpuMilli: house.fleet.shareMilli,
  };
  const task = house.index.classOf(ask);
  /** @type {Set<Promise<void>>} */
  const inFlight = new Set();
  /** @type {Choice[]} */
  const standing = [];
  let leased = 0;
  for (let at = 0; at < count; at += WINDOW) {
    const rows = Math.min(WINDOW, count - at);
    const jobId = await accept(house, rows);
    const { wishes, choices } = decide(house, task, jobId, rows, rowsPerTask);
    const commit = house.store.grant(wishes, LEASE_MS, house.held).then((granted) => {
      if (endsAtOnce) for (const choice of choices) house.index.give(task, choice);
      else standing.push(...choices);
      leased += granted.length;
      house.placed.tasks += granted.length;
      inFlight.delete(commit);
    });
    inFlight.add(commit);
    if (inFlight.size >= IN_FLIGHT) await Promise.race(inFlight);
  }
  await Promise.all(inFlight);
  // For the next round.
  for (const choice of standing) house.index.give(task, choice);
  return leased;
}

/**
 * Tasks that so many rows are cut into.
 *
 * @param {number} rows
 * @param {number} rowsPerTask
 */
export function tasksOf(rows, rowsPerTask) {
  const [whole, rest] = [Math.floor(rows / WINDOW), rows % WINDOW];
  return whole * Math.ceil(WINDOW / rowsPerTask) + Math.ceil(rest / rowsPerTask);
}

/**
 * That the books are right, and hold a standing lease for each task that was counted as placed.
 *
 * @param {PlacementHouse} house
 */
export async function assertInOrder({ database, placed }) {
  // The messages of accepted batches lie in the outbox: no relay runs here.
  const { violations } = await runDoctor(database, { stuckAfterMs: 3_600_000 });
  if (violations.length > 0)
    throw new Error(`the books are not right, so the time says nothing: ${JSON.stringify(violations.slice(0, 3))}`);
  const [{ leases }] = /** @type {{ leases: number }[]} */ (
    await database.query('SELECT count(*)::int AS leases FROM lease WHERE ended_at IS NULL')
  );
  if (leases !== placed.tasks) throw new Error(`${leases} leases stand where ${placed.tasks} tasks were placed`);
}

/**
 * A batch from its submission to its start, by the store's own three commits.
 *
 * @param {PlacementHouse} house
 * @param {number} rows
 */
async function accept({ jobs }, rows) {
  const jobId = batchId({ bytes: randomBytes }, Date.now());
  const submitted = await jobs.submitBatch(
    {
      id: jobId,
      orgId: ORG,
      keyId: KEY,
      endpoint: '/v1/embeddings',
      inputFileId: FILE,
      completionWindow: '24h',
      metadata: {},
      verify: 'spot',
      region: null,
      priority: 0,
      deadlineInMs: DAY_MS,
    },
    null,
  );
  const added = await jobs.addRows(
    jobId,
    Array.from({ length: rows }, (_, n) => ({ rowNo: n, customId: `row-${n}`, offset: n, length: 1 })),
  );
  const rateCaps = { embeddingToken: 1_000_000n };
  const plan = {
    model: 'm',
    tuned: null,
    rowCount: rows,
    cap: BigInt(rows),
    rateCaps,
    counted: BigInt(rows),
    worst: { embeddingToken: BigInt(rows) },
    promptBlocks: [],
  };
  const started = await jobs.start(jobId, plan);
  if (submitted.outcome !== 'made' || !added || !started.started) throw new Error('a batch was not accepted');
  return jobId;
}

/**
 * @param {PlacementHouse} house
 * @param {TaskClass} task
 * @param {string} jobId
 * @param {number} rows
 * @param {number} rowsPerTask
 */
function decide({ index }, task, jobId, rows, rowsPerTask) {
  /** @type {LeaseWish[]} */
  const wishes = [];
  const choices = [];
  const nonces = drawNonces({ bytes: randomBytes }, Math.ceil(rows / rowsPerTask));
  const model = { model: 'm', digest: 'declared:m', engineClass: 'bench', rates: { embeddingToken: 1_000_000n } };
  for (let rowFrom = 0; rowFrom < rows; rowFrom += rowsPerTask) {
    const choice = index.best(task);
    if (choice === null) throw new Error('the fleet is full: the bench asks for more than it has');
    index.take(task, choice);
    choices.push(choice);
    const rowTo = Math.min(rows, rowFrom + rowsPerTask);
    const nonce = nonces[wishes.length];
    wishes.push({ jobId, taskId: null, epoch: 1, rowFrom, rowTo, nodeId: index.idOf(choice.node), nonce, ...model });
  }
  return { wishes, choices };
}
