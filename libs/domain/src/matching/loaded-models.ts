import { keepNewest } from '../newest.ts';
import type { Ask, Candidate } from './ask.ts';
import { CONSTRAINTS, LEASES_AHEAD, takesWork } from './constraints.ts';
import { taskClassKey } from './placement-index/keys.ts';
import { alternatives, LOAD_ASSUMED_S, servedModel } from './served-model.ts';
import { measuredRows, NEWCOMER_ROWS, TASK_ROWS_MAX, TASK_TARGET_MS } from './task-size.ts';

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
  /** Whether anybody had to load it since it was first offered. */
  mustLoad: boolean;
  /** How many nodes take so many seconds to load it; one that has it loaded would as well. Each node has one voice. */
  readonly loads: Map<number, number>;
  /** The time in the middle of those; null: to be found anew. */
  loadS: number | null;
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
    for (const model of node.models) {
      const offered = this.#offered.get(model.name) ?? {
        offers: 0,
        holders: 0,
        mustLoad: false,
        loads: new Map(),
        loadS: null,
        rowsPerTask: NEWCOMER_ROWS,
      };
      this.#offered.set(model.name, offered);
      offered.mustLoad ||= !model.loaded;
      const rows = Math.round(measuredRows(node, model, TASK_TARGET_MS) ?? NEWCOMER_ROWS);
      offered.rowsPerTask = Math.min(TASK_ROWS_MAX, Math.max(offered.rowsPerTask, rows));
    }
    const named = this.#count(node, 1);
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

  /**
   * Seconds that it takes to load a model that some node offers: the time in the middle of what is known of all of them. No single
   * node's claim makes anybody wait, or drives anything out.
   */
  loadSecondsOf(model: string): number {
    const offered = this.#offered.get(model);
    if (offered === undefined) return LOAD_ASSUMED_S;
    offered.loadS ??= middleOf(offered.loads, offered.offers);
    return offered.loadS;
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
    keepNewest(this.#classes, key, of, CLASSES_MAX);
    return of;
  }

  #forget(nodeId: string): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    this.#count(node, -1);
    for (const of of this.#classes.values()) of.holders.delete(nodeId);
  }

  /** Takes a node in or out: once for each model that it names, with or without it loaded. Returns their names. */
  #count(node: Candidate, sign: 1 | -1): ReadonlyMap<string, boolean> {
    const named = new Map<string, boolean>();
    const loads = new Map<string, number>();
    for (const { name, loaded, loadS = LOAD_ASSUMED_S } of node.models) {
      named.set(name, loaded || named.get(name) === true);
      loads.set(name, Math.min(loadS, loads.get(name) ?? loadS));
    }
    for (const [name, isLoaded] of named) {
      const offered = this.#offered.get(name);
      if (offered === undefined) continue;
      offered.offers += sign;
      offered.holders += sign * Number(isLoaded && takesWork(node));
      const loadS = loads.get(name) ?? LOAD_ASSUMED_S;
      const nodes = (offered.loads.get(loadS) ?? 0) + sign;
      if (nodes > 0) offered.loads.set(loadS, nodes);
      else offered.loads.delete(loadS);
      offered.loadS = null;
      if (offered.offers === 0) this.#offered.delete(name);
    }
    return named;
  }
}

/** Of an even number the longer of the two in the middle. */
function middleOf(loads: ReadonlyMap<number, number>, nodes: number): number {
  let before = 0;
  for (const [loadS, some] of [...loads].sort(([a], [b]) => a - b)) {
    before += some;
    if (2 * before > nodes) return loadS;
  }
  return LOAD_ASSUMED_S;
}

/** With several engines or digests to choose from, any that is loaded will do: which it is depends on the time left. */
function mayUse(ask: Ask, node: Candidate): boolean {
  return (
    takesWork(node) &&
    alternatives(ask, node).some(
      (one) => servedModel(ask, one)?.loaded === true && OF_SLOT.every((constraint) => constraint.holds(ask, one)),
    )
  );
}
