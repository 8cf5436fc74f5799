/** Changes kept; who is further behind counts all groups. A power of two. */
const LOG = 4_096;

/** How far a reader has counted. */
export interface Count {
  nodes: number;
  /** Position in the log; -1: never counted. */
  at: number;
}

/**
 * How many nodes of each group take work, free or full: so many could serve a class of tasks. Counted on from a log of changes
 * when it is asked, so that no decision looks at all nodes.
 */
export class ServingNodes {
  readonly #inGroup: number[] = [];
  /** Group and sign of each change: twice the group, and one more where a node came. */
  readonly #log = new Int32Array(LOG);
  #logged = 0;

  get bytes(): number {
    return this.#log.byteLength;
  }

  change(group: number, by: 1 | -1): void {
    this.#inGroup[group] = (this.#inGroup[group] ?? 0) + by;
    this.#log[this.#logged % LOG] = 2 * group + Number(by === 1);
    this.#logged += 1;
  }

  /** Brings a reader's count up to date. @param fits Whether the nodes of a group could serve it. */
  read(count: Count, fits: (group: number) => boolean): number {
    const behind = this.#logged - count.at;
    if (count.at < 0 || behind > LOG || behind > this.#inGroup.length) count.nodes = this.#countAll(fits);
    else for (let at = count.at; at < this.#logged; at += 1) count.nodes += this.#changeAt(at, fits);
    count.at = this.#logged;
    return count.nodes;
  }

  #changeAt(at: number, fits: (group: number) => boolean): number {
    const entry = this.#log[at % LOG] ?? 0;
    const by = entry % 2 === 1 ? 1 : -1;
    return fits(Math.floor(entry / 2)) ? by : 0;
  }

  #countAll(fits: (group: number) => boolean): number {
    let nodes = 0;
    for (const [group, here] of this.#inGroup.entries())
      if (here !== undefined && here > 0 && fits(group)) nodes += here;
    return nodes;
  }
}
