import type { ConnectedNode, NodeChanges } from './ports/provider-link.ts';

/** Changes remembered: as many as nodes may come back at once after an outage. Who is further behind looks at all. */
const REMEMBERED = 8_192;

/** Which nodes came, went, or said something else of themselves, in order. Each reader keeps its own mark. */
export class NodeChangeLog {
  readonly #ids: string[] = [];
  #count = 0;

  note(nodeId: string): void {
    this.#ids[this.#count % REMEMBERED] = nodeId;
    this.#count += 1;
  }

  /** @param nodeOf A node as it stands; undefined: it is not here. */
  since(mark: number | null, nodeOf: (nodeId: string) => ConnectedNode | undefined): NodeChanges {
    const now = this.#count;
    if (mark === null || now - mark > REMEMBERED) return { mark: now, nodes: null };
    const nodes = new Map<string, ConnectedNode | null>();
    for (let at = mark; at < now; at += 1) {
      const id = this.#ids[at % REMEMBERED] ?? '';
      if (!nodes.has(id)) nodes.set(id, nodeOf(id) ?? null);
    }
    return { mark: now, nodes };
  }
}
