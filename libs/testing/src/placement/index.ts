export { mostAllocated } from './openb-bound.ts';
export { PUBLISHED, runOpenb, type OpenbRun } from './openb-run.ts';
export { AgingWork } from './aging-work.ts';
export { ChurningFleet } from './churning-fleet.ts';
export { bytesInUse, bytesOf, keptDemandOf, keptFleetOf, offersOf } from './memory.ts';
export { readNodeList, readPodList, type TraceNode, type TracePod } from './openb-trace.ts';
export { type TraceFile } from './trace-file.ts';
export { readRequests, type TraceRequest } from './request-trace.ts';
export { loadOfTrace } from './load-of-trace.ts';
export { PrefixCache } from './prefix-cache.ts';
export {
  playSlotMarket,
  SLOTS,
  type Churn,
  type PrefixCaches,
  type SlotMarketRun,
  type SlotMarketSetting,
  type SlotWork,
} from './slot-market.ts';
export { decideAsScan, FLEET_ECONOMY, fleetAsks, FleetLoad, randomFleet } from './random-fleet.ts';
export { EventHeap } from './event-heap.ts';
export { TaskQueue } from './task-queue.ts';
export { replayColdStarts, type ColdStarts, type ColdStartsSetting } from './cold-starts.ts';
export { withBursts, withModels, type ModelRequest, type TimedRequest } from './model-requests.ts';
