/** Weight of the newest measurement in a node's speed. */
const SPEED_WEIGHT = 0.3;

/**
 * Rows per second of each (node, model), as this process sees them become durable.
 *
 * Only the time inside a lease counts. Commit, verdict and placement lie between two leases, and a node that is charged for
 * them looks slow, gets shorter leases, and so has more of them: the mistake would feed itself.
 */
export class SpeedMeter {
  readonly #speeds = new Map<string, number>();

  rowsPerSecond(nodeId: string, digest: string): number | undefined {
    return this.#speeds.get(nodeModelKey(nodeId, digest));
  }

  /** For one lease: call the answer with every batch of rows and the time it came. The first batch only starts the clock. */
  lease(nodeId: string, digest: string): (rows: number, nowMs: number) => void {
    let lastMs: number | null = null;
    return (rows, nowMs) => {
      if (lastMs !== null && nowMs > lastMs) this.#add(nodeModelKey(nodeId, digest), (rows * 1_000) / (nowMs - lastMs));
      lastMs = nowMs;
    };
  }

  #add(key: string, fresh: number): void {
    const before = this.#speeds.get(key);
    this.#speeds.set(key, before === undefined ? fresh : before * (1 - SPEED_WEIGHT) + fresh * SPEED_WEIGHT);
  }
}

/** What is measured of a model on one node is kept by this. */
export function nodeModelKey(nodeId: string, digest: string): string {
  return `${nodeId} ${digest}`;
}
