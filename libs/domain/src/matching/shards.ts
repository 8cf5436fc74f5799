import { fnv1a } from './fnv.ts';

/** A coordinator with more schedulers than this has other problems. */
export const SHARDS_MAX = 64;

/** Which of `count` parts of all nodes a node belongs to. */
export function shardOf(nodeId: string, count: number): number {
  return fnv1a(nodeId) % count;
}
