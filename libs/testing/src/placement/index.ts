export { mostAllocated } from './openb-bound.ts';
export { PUBLISHED, runOpenb, type OpenbRun } from './openb-run.ts';
export { bytesInUse, keptDemandOf, keptFleetOf, offersOf } from './memory.ts';
export { readNodeList, readPodList, type TraceFile, type TraceNode, type TracePod } from './openb-trace.ts';
export { decideAsScan, FLEET_ECONOMY, fleetAsks, FleetLoad, randomFleet } from './random-fleet.ts';
export { EventHeap } from './event-heap.ts';
export { TaskQueue } from './task-queue.ts';
export { replayColdStarts, type ColdStarts, type ColdStartsSetting } from './cold-starts.ts';
export { withBursts, withModels, type ModelRequest, type TimedRequest } from './model-requests.ts';
