/**
 * What the placement keeps in memory: 100,000 nodes with their names and the compiled classes of tasks in the index; 1,000,000 queued
 * rows of 20,000 jobs and 100,000 of as many as the scheduler keeps them, by job; and beside it what it keeps of a node that is connected (its record, the
 * node as the index sees it, its offer). The difference of heap and array buffers after a collection.
 *
 *   npm run bench -- memory
 */
import { chance } from '@freehold/domain';
import {
  bytesOf,
  FLEET_ECONOMY,
  fleetAsks,
  FleetLoad,
  keptDemandOf,
  keptFleetOf,
  offersOf,
  randomFleet,
} from '@freehold/testing/placement';
import { spentMetrics, spentText, stopwatch } from './house/processor-time.mjs';
import { rounded } from './placement/measure.mjs';

/**
 * @import { PlacementIndex } from '@freehold/domain'
 * @import { KeptDemand } from '@freehold/market'
 */

const NODES = 100_000;
/** As many as one process is connected to at most. */
const CONNECTED = 5_000;
const TASKS = 1_000_000;
const ROWS_PER_JOB = 50;
/** Jobs of a single row each: the most that rows can cost. */
const SINGLE_ROWS = 100_000;
const FLOOR = { bytesPerNode: 1_024, bytesPerQueuedTask: 600, bytesPerSingleRowJob: 600 };
const TARGET = { bytesPerNode: 256, bytesPerQueuedTask: 100 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  const spent = stopwatch();
  // Compiled code is there, and what is measured is what it should be, before anything is counted.
  assertFleet(fleetInUse(1_000), 1_000);
  assertDemand(await keptDemandOf(ROWS_PER_JOB, ROWS_PER_JOB), ROWS_PER_JOB, ROWS_PER_JOB);
  const index = await bytesOf(() => fleetInUse(NODES));
  assertFleet(index.made, NODES);
  const demand = await bytesOf(() => keptDemandOf(TASKS, ROWS_PER_JOB));
  assertDemand(demand.made, TASKS, ROWS_PER_JOB);
  const single = await bytesOf(() => keptDemandOf(SINGLE_ROWS, 1));
  assertDemand(single.made, SINGLE_ROWS, 1);
  const offers = await bytesOf(() => offersOf(CONNECTED));
  const fleet = await bytesOf(() => keptFleetOf(offers.made));
  if (fleet.made.size !== CONNECTED)
    throw new Error(`${fleet.made.size} nodes are kept where ${CONNECTED} are connected`);
  const metrics = {
    bytesPerNode: rounded(index.bytes / NODES, 1),
    bytesPerQueuedTask: rounded(demand.bytes / TASKS, 1),
    // A job costs the same however many its rows: of jobs with a single one this is what a row costs.
    bytesPerSingleRowJob: rounded(single.bytes / SINGLE_ROWS, 1),
    bytesPerNodeInArrays: rounded(index.made.bytes / NODES, 1),
    bytesPerOpenJob: rounded(demand.bytes / demand.made.size, 1),
    bytesPerConnectedNode: rounded(fleet.bytes / CONNECTED, 1),
    bytesPerOffer: rounded(offers.bytes / CONNECTED, 1),
    nodes: index.made.nodes,
    connectedNodes: fleet.made.size,
    queuedTasks: TASKS,
    openJobs: demand.made.size,
    singleRowJobs: single.made.size,
    states: index.made.states,
    ...spentMetrics(spent()),
  };
  if (!json) console.log(`  ${spentText(spent())}`);
  return {
    metrics,
    floor: FLOOR,
    target: TARGET,
    pass:
      metrics.bytesPerNode <= FLOOR.bytesPerNode &&
      metrics.bytesPerQueuedTask <= FLOOR.bytesPerQueuedTask &&
      metrics.bytesPerSingleRowJob <= FLOOR.bytesPerSingleRowJob,
  };
}

/**
 * The index in use, not fresh: two tasks per node run, and each class was asked for. What ran is forgotten with the load.
 *
 * @param {number} nodes
 */
function fleetInUse(nodes) {
  const index = randomFleet(nodes, chance(1), FLEET_ECONOMY());
  const tasks = fleetAsks().map((ask) => index.classOf(ask));
  const load = new FleetLoad(index, 2 * nodes);
  const rng = chance(3);
  let placed = 0;
  for (let i = 0; i < 2 * nodes; i += 1) if (load.decide(rng.pick(tasks)) !== null) placed += 1;
  if (placed < nodes) throw new Error(`${placed} tasks were placed on ${nodes} nodes: the fleet is not in use`);
  return index;
}

/**
 * @param {PlacementIndex} index
 * @param {number} nodes
 */
function assertFleet(index, nodes) {
  if (index.nodes !== nodes) throw new Error(`${index.nodes} nodes are in the index where ${nodes} were put`);
}

/**
 * @param {KeptDemand} demand
 * @param {number} rows
 * @param {number} rowsPerJob
 */
function assertDemand(demand, rows, rowsPerJob) {
  const next = demand.next();
  if (demand.size * rowsPerJob !== rows || next.length === 0 || next.some(({ rowCount }) => rowCount !== rowsPerJob))
    throw new Error(`${demand.size} jobs of ${next[0]?.rowCount} rows are kept where ${rows} rows wait`);
}
