interface Running {
  readonly nodeId: string;
  readonly controller: AbortController;
}

/** The leases that run through this process, by their keys; of each node it is known how many, without a walk through thousands. */
export class RunningLeases {
  readonly #leases = new Map<string, Running>();
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#leases.size;
  }

  has(key: string): boolean {
    return this.#leases.has(key);
  }

  countOf(nodeId: string): number {
    return this.#counts.get(nodeId) ?? 0;
  }

  /** @returns what ends the lease: {@link abort}. */
  begin(key: string, nodeId: string): AbortSignal {
    if (this.#leases.has(key)) throw new Error(`lease ${key} runs already`);
    const controller = new AbortController();
    this.#leases.set(key, { nodeId, controller });
    this.#counts.set(nodeId, this.countOf(nodeId) + 1);
    return controller.signal;
  }

  ended(key: string): void {
    const lease = this.#leases.get(key);
    if (lease === undefined) return;
    this.#leases.delete(key);
    const left = this.countOf(lease.nodeId) - 1;
    if (left > 0) this.#counts.set(lease.nodeId, left);
    else this.#counts.delete(lease.nodeId);
  }

  abort(key: string): void {
    this.#leases.get(key)?.controller.abort();
  }

  /** Those of all nodes of which this is true. */
  abortAll(of: (nodeId: string) => boolean = () => true): void {
    for (const { nodeId, controller } of this.#leases.values()) if (of(nodeId)) controller.abort();
  }
}
