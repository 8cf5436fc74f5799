/**
 * What the placement keeps in memory: 100,000 nodes with their names and the compiled classes of tasks, and 1,000,000 queued
 * tasks, in one process. The difference of heap and array buffers after a collection.
 *
 *   npm run bench -- memory
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { chance, TaskQueue } from '@freehold/domain';
import { FLEET_ECONOMY, fleetAsks, FleetLoad, randomFleet } from '@freehold/testing/placement';
import { rounded } from './placement/measure.mjs';

const NODES = 100_000;
const TASKS = 1_000_000;
const FLOOR = { bytesPerNode: 1_024, bytesPerQueuedTask: 600 };
const TARGET = { bytesPerNode: 256, bytesPerQueuedTask: 100 };

export async function run() {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const used = () => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const economy = FLEET_ECONOMY();
  const before = used();
  const index = randomFleet(NODES, chance(1), economy);
  const tasks = fleetAsks().map((ask) => index.classOf(ask));
  const placed = fill(index, tasks);
  const withNodes = used();
  const queue = new TaskQueue();
  const rng = chance(2);
  for (let row = 0; row < TASKS; row += 1)
    queue.add({ job: row >> 8, row: row & 255, taskClass: rng.below(tasks.length) }, row, row + rng.below(3_600_000));
  const withTasks = used();
  if (index.nodes !== NODES || queue.size !== TASKS || placed < NODES)
    throw new Error('the fleet or the queue is not what it should be');
  const metrics = {
    bytesPerNode: rounded((withNodes - before) / NODES, 1),
    bytesPerQueuedTask: rounded((withTasks - withNodes) / TASKS, 1),
    bytesPerNodeInArrays: rounded(index.bytes / NODES, 1),
    nodes: index.nodes,
    queuedTasks: queue.size,
    states: index.states,
  };
  return {
    metrics,
    floor: FLOOR,
    target: TARGET,
    pass: metrics.bytesPerNode <= FLOOR.bytesPerNode && metrics.bytesPerQueuedTask <= FLOOR.bytesPerQueuedTask,
  };
}

/** The index in use, not fresh: two tasks per node run, and each class was asked for. What ran is forgotten with the load. */
function fill(index, tasks) {
  const load = new FleetLoad(index, 2 * NODES);
  const rng = chance(3);
  let placed = 0;
  for (let i = 0; i < 2 * NODES; i += 1) if (load.decide(rng.pick(tasks)) !== null) placed += 1;
  return placed;
}
