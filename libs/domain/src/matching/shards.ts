/** A coordinator with more schedulers than this has other problems. */
export const SHARDS_MAX = 64;

/** Which of `count` parts of all nodes a node belongs to: FNV-1a over its id, the same for everybody and for ever. */
export function shardOf(nodeId: string, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < nodeId.length; i += 1) hash = Math.imul(hash ^ nodeId.charCodeAt(i), 0x01000193) >>> 0;
  return hash % count;
}
