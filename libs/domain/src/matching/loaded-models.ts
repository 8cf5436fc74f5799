import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, LEASES_AHEAD, loadSeconds, servedModel } from './constraints.ts';
import { taskClassKey } from './placement-index/keys.ts';
import { NEWCOMER_ROWS, TASK_ROWS_MAX, TASK_TARGET_MS } from './placer.ts';

const MS_PER_SECOND = 1_000;
/** Kinds of wishes whose slots are kept counted; the one that was asked for least recently makes room. */
const CLASSES_MAX = 256;
/** Whether a wish may use a slot of a node, apart from its model being loaded there, and from the time left, which always changes. */
const OF_SLOT = CONSTRAINTS.filter(
  ({ reads, name }) => reads === 'offer' && name !== 'warm-wait' && name !== 'deadline',
);

/** What the nodes that offer a model say of it. */
interface Offered {
  /** Nodes that offer it, and those of them that take work and have it loaded. */
  offers: number;
  holders: number;
  /** The longest that it takes to load, of those who said so since it was first offered; undefined: nobody has to load it. */
  loadS: number | undefined;
  /** The largest task that a node takes of it, likewise. */
  rowsPerTask: number;
}

/** Wishes that may use the same nodes. */
interface SlotClass {
  readonly ask: Ask;
  readonly holders: Set<string>;
}

/** Wishes for one model that differ in nothing that nodes are chosen by but the time left. */
export function slotClassKey(ask: Ask): string {
  return taskClassKey({ ...ask, deadlineInMs: 0, loadGainS: 0 });
}

/**
 * Which nodes have which models loaded, and how many slots that makes for a wish: kept as nodes come, change and go, so that no
 * decision looks at all of them. A node counts once for a model, however often its engines name it.
 */
export class LoadedModels {
  /** Leases that a node holds at once. Those of a node with several models stand ready for each of them. */
  readonly slotsPerNode: number;
  readonly #nodes = new Map<string, Candidate>();
  readonly #offered = new Map<string, Offered>();
  readonly #classes = new Map<string, SlotClass>();

  constructor(slotsPerNode: number = LEASES_AHEAD) {
    this.slotsPerNode = slotsPerNode;
  }

  node(nodeId: string): Candidate | undefined {
    return this.#nodes.get(nodeId);
  }

  /** Adds a node, or takes in how it stands now. */
  put(node: Candidate): void {
    this.#forget(node.nodeId);
    this.#nodes.set(node.nodeId, node);
    const takesWork = takes(node);
    const named = new Set<string>();
    for (const model of node.models) {
      if (named.has(model.name)) continue;
      named.add(model.name);
      const offered = this.#offered.get(model.name) ?? {
        offers: 0,
        holders: 0,
        loadS: undefined,
        rowsPerTask: NEWCOMER_ROWS,
      };
      this.#offered.set(model.name, offered);
      offered.offers += 1;
      offered.holders += Number(model.loaded && takesWork);
      if (!model.loaded) offered.loadS = Math.max(offered.loadS ?? 0, loadSeconds(model));
      const rows = Math.round((model.rowsPerSecond * TASK_TARGET_MS) / MS_PER_SECOND);
      offered.rowsPerTask = Math.min(TASK_ROWS_MAX, Math.max(offered.rowsPerTask, rows));
    }
    for (const of of this.#classes.values()) {
      if (of.ask.model === null || !named.has(of.ask.model)) continue;
      if (mayUse(of.ask, node)) of.holders.add(node.nodeId);
    }
  }

  drop(nodeId: string): void {
    this.#forget(nodeId);
    this.#nodes.delete(nodeId);
  }

  /** Undefined where no node offers it. */
  of(model: string): Readonly<Offered> | undefined {
    return this.#offered.get(model);
  }

  /** Slots of all nodes that have the model loaded. */
  slotsOf(model: string): number {
    return (this.#offered.get(model)?.holders ?? 0) * this.slotsPerNode;
  }

  /** Slots that this wish may use where its model is loaded, free or not. */
  slotsFor(ask: Ask, key = slotClassKey(ask)): number {
    return this.#classOf(ask, key).holders.size * this.slotsPerNode;
  }

  /** Whether work runs now on a slot that this wish may use. */
  isServed(ask: Ask): boolean {
    const { holders } = this.#classOf(ask, slotClassKey(ask));
    return [...holders].some((id) => (this.#nodes.get(id)?.leasesActive ?? 0) > 0);
  }

  #classOf(ask: Ask, key: string): SlotClass {
    const known = this.#classes.get(key);
    const of = known ?? { ask, holders: new Set<string>() };
    if (known === undefined)
      for (const node of this.#nodes.values()) if (mayUse(ask, node)) of.holders.add(node.nodeId);
    this.#classes.delete(key);
    this.#classes.set(key, of);
    for (const oldest of this.#classes.keys()) {
      if (this.#classes.size <= CLASSES_MAX) break;
      this.#classes.delete(oldest);
    }
    return of;
  }

  #forget(nodeId: string): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    const takesWork = takes(node);
    const named = new Set<string>();
    for (const { name, loaded } of node.models) {
      const offered = this.#offered.get(name);
      if (offered === undefined || named.has(name)) continue;
      named.add(name);
      offered.offers -= 1;
      offered.holders -= Number(loaded && takesWork);
      if (offered.offers === 0) this.#offered.delete(name);
    }
    for (const of of this.#classes.values()) of.holders.delete(nodeId);
  }
}

function takes({ draining, benchedForMs }: Candidate): boolean {
  return !draining && benchedForMs <= 0;
}

function mayUse(ask: Ask, node: Candidate): boolean {
  return (
    takes(node) && servedModel(ask, node)?.loaded === true && OF_SLOT.every((constraint) => constraint.holds(ask, node))
  );
}
