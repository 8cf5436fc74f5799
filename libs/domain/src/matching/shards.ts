import { fnv1a } from './fnv.ts';

/** A coordinator with more schedulers than this has other problems. */
export const SHARDS_MAX = 64;

/** Which of `count` parts of all nodes a node belongs to. */
export function shardOf(nodeId: string, count: number): number {
  return fnv1a(nodeId) % count;
}

/**
 * Of these nodes, as many as one scheduler has at most: what begins on several at once begins on those of one. Nodes whose shard
 * nobody holds are taken for one's: somebody will.
 *
 * @param holders The shards of each.
 */
export function mostOfOneHolder(
  nodeIds: readonly string[],
  holders: readonly (readonly number[])[],
  count: number,
): number {
  const holderOf = new Map(holders.flatMap((numbers, holder) => numbers.map((no) => [no, holder] as const)));
  const nodes = new Map<number | undefined, number>();
  for (const id of nodeIds) {
    const holder = holderOf.get(shardOf(id, count));
    nodes.set(holder, (nodes.get(holder) ?? 0) + 1);
  }
  return Math.max(0, ...nodes.values());
}
