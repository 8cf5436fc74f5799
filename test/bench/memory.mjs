/**
 * What the placement keeps in memory: 100,000 nodes with their names and the compiled classes of tasks in the index; 1,000,000 queued
 * rows of 20,000 jobs as the scheduler keeps them, by job; and beside it what it keeps of a node that is connected (its record, the
 * node as the index sees it, its offer). The difference of heap and array buffers after a collection.
 *
 *   npm run bench -- memory
 */
import { chance } from '@freehold/domain';
import {
  bytesInUse,
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

/** @import { PlacementIndex, TaskClass } from '@freehold/domain' */

const NODES = 100_000;
/** As many as one process is connected to at most. */
const CONNECTED = 5_000;
const TASKS = 1_000_000;
const FLOOR = { bytesPerNode: 1_024, bytesPerQueuedTask: 600 };
const TARGET = { bytesPerNode: 256, bytesPerQueuedTask: 100 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ json = false } = {}) {
  const spent = stopwatch();
  const economy = FLEET_ECONOMY();
  const before = bytesInUse();
  const index = randomFleet(NODES, chance(1), economy);
  const tasks = fleetAsks().map((ask) => index.classOf(ask));
  const placed = fill(index, tasks);
  const withNodes = bytesInUse();
  const demand = await keptDemandOf(TASKS);
  const withTasks = bytesInUse();
  const offers = offersOf(CONNECTED);
  const withOffers = bytesInUse();
  const fleet = await keptFleetOf(offers);
  const withFleet = bytesInUse();
  const waiting = demand.next().reduce((sum, { nextRow, rowCount }) => sum + rowCount - nextRow, 0);
  if (index.nodes !== NODES || placed < NODES || fleet.size !== CONNECTED || waiting === 0)
    throw new Error('the fleet or the queue is not what it should be');
  const metrics = {
    bytesPerNode: rounded((withNodes - before) / NODES, 1),
    bytesPerQueuedTask: rounded((withTasks - withNodes) / TASKS, 1),
    bytesPerNodeInArrays: rounded(index.bytes / NODES, 1),
    bytesPerOpenJob: rounded((withTasks - withNodes) / demand.size, 1),
    bytesPerConnectedNode: rounded((withFleet - withOffers) / CONNECTED, 1),
    bytesPerOffer: rounded((withOffers - withTasks) / CONNECTED, 1),
    nodes: index.nodes,
    connectedNodes: fleet.size,
    queuedTasks: TASKS,
    openJobs: demand.size,
    states: index.states,
    ...spentMetrics(spent()),
  };
  if (!json) console.log(`  ${spentText(spent())}`);
  return {
    metrics,
    floor: FLOOR,
    target: TARGET,
    pass: metrics.bytesPerNode <= FLOOR.bytesPerNode && metrics.bytesPerQueuedTask <= FLOOR.bytesPerQueuedTask,
  };
}

/**
 * The index in use, not fresh: two tasks per node run, and each class was asked for. What ran is forgotten with the load.
 *
 * @param {PlacementIndex} index
 * @param {readonly TaskClass[]} tasks
 */
function fill(index, tasks) {
  const load = new FleetLoad(index, 2 * NODES);
  const rng = chance(3);
  let placed = 0;
  for (let i = 0; i < 2 * NODES; i += 1) if (load.decide(rng.pick(tasks)) !== null) placed += 1;
  return placed;
}
