import { CONSTRAINTS, LEASES_AHEAD, type Constraint } from './constraints.ts';
import type { Ask, Candidate } from './ask.ts';
import { costOf, scoreTerms, totalOf } from './score.ts';
import { alternatives, figuresOf, servedModel, sumOf, termsOf, urgencyOf, type ModelFigures } from './served-model.ts';
import { ENGINES_STAND } from './placer.ts';
import { unitOf } from './typical-unit.ts';

const ALL = [...CONSTRAINTS.entries()];
const OF_PAIR = CONSTRAINTS.filter(({ reads }) => reads === 'pair');
const NOW = ALL.filter(([, { reads }]) => reads !== 'pair');
/** Whether a wish may use a slot of a node, free or not, apart from the time left: as `LoadedModels` has it. */
const OF_SLOT = ALL.filter(
  ([, { name, reads }]) =>
    (reads === 'offer' && name !== 'warm-wait' && name !== 'deadline') || name === 'draining' || name === 'benched',
);
const WORD_BITS = 32;
/** A step of {@link Lineup.learning} looks at so many nodes, or asks all of them one thing. */
const NODES_A_STEP = 256;

/** A node that could be leased now, with its model that would serve alone. */
export interface Place {
  readonly node: Candidate;
  readonly cost: number;
}

/** Slots where a wish's model is loaded. */
export interface LoadedSlots {
  readonly slots: number;
  /** Work runs on one of them. */
  readonly isServed: boolean;
}

/**
 * Nodes as they stand at one moment, for who asks of them what many jobs want: each constraint is asked of a node once for all jobs that it
 * cannot tell apart, so that another job of a kind costs a look at sets of bits. Who asks for one job only needs no line-up.
 *
 * Answers as {@link obstacle} and `scanCost` do; a test holds it to them.
 */
export class Lineup {
  readonly #nodes: readonly Candidate[];
  readonly #naming = new Map<string, number[]>();
  readonly #fields = new Map<string, Field>();
  #schedulers: readonly Candidate['scheduler'][] | null = null;

  constructor(nodes: readonly Candidate[]) {
    this.#nodes = nodes;
    for (const [number, { models }] of nodes.entries())
      for (const { name } of models) {
        const naming = this.#naming.get(name);
        if (naming === undefined) this.#naming.set(name, [number]);
        else if (naming.at(-1) !== number) naming.push(number);
      }
  }

  /** Those that their nodes are known to belong to. */
  get schedulers(): readonly Candidate['scheduler'][] {
    return (this.#schedulers ??= [...new Set(this.#nodes.map(({ scheduler }) => scheduler))]);
  }

  /** Constraints asked of a node since it was made. */
  get asked(): number {
    return [...this.#fields.values()].reduce((sum, { asked }) => sum + asked, 0);
  }

  /** Makes ready for a question about an ask, a step at a time: the first of a kind takes longest. Who asks at once has the same answer. */
  *learning(ask: Ask, of: 'now' | 'slots' = 'now'): Generator<void> {
    yield* this.#makingField(ask);
    const field = this.#fieldOf(ask);
    yield;
    for (const [bit, constraint] of of === 'now' ? NOW : OF_SLOT) if (field.learn(ask, bit, constraint)) yield;
  }

  /** The nodes that could be leased for an ask now and cost least, so many at most: as the placement would take them, one after the other. */
  best(ask: Ask, most: number, counts: (node: Candidate) => boolean): readonly Place[] {
    const field = this.#fieldOf(ask);
    const costAt = field.costs(ask);
    const places: Place[] = [];
    field.each(ask, NOW, (way) => {
      const node = field.ways[way];
      if (node === undefined || !counts(node) || OF_PAIR.some(({ holds }) => !holds(ask, node))) return;
      insert(places, { node, cost: costAt(way, node) }, most);
    });
    return places;
  }

  /** Slots of nodes that have an ask's model loaded and may serve it, free or not. */
  loadedSlots(ask: Ask): LoadedSlots {
    const field = this.#fieldOf(ask);
    let [nodes, last, isServed] = [0, '', false];
    field.each(
      ask,
      OF_SLOT,
      (way) => {
        const node = field.ways[way];
        if (node === undefined || node.nodeId === last) return;
        [nodes, last] = [nodes + 1, node.nodeId];
        isServed ||= node.leasesActive > 0;
      },
      field.loaded,
    );
    return { slots: nodes * LEASES_AHEAD, isServed };
  }

  #fieldOf(ask: Ask): Field {
    const known = this.#fields.get(fieldKey(ask));
    if (known !== undefined) return known;
    const making = this.#makingField(ask);
    for (;;) {
      const { done, value } = making.next();
      if (done === true) return value;
    }
  }

  *#makingField(ask: Ask): Generator<void, Field> {
    const key = fieldKey(ask);
    const known = this.#fields.get(key);
    if (known !== undefined) return known;
    const nodes = ask.model === null ? this.#nodes : this.#nodesNaming(ask.model);
    const ways: Candidate[] = [];
    for (const [at, node] of nodes.entries()) {
      if (at > 0 && at % NODES_A_STEP === 0) yield;
      ways.push(...waysIn(ask, node));
    }
    const made = new Field(ask, ways);
    this.#fields.set(key, made);
    return made;
  }

  #nodesNaming(model: string): readonly Candidate[] {
    return (this.#naming.get(model) ?? []).flatMap((number) => this.#nodes[number] ?? []);
  }
}

function fieldKey({ model, modelKind }: Ask): string {
  return model === null ? '' : JSON.stringify([model, modelKind ?? null]);
}

/** A node with one model alone is read faster, and read thousands of times. */
function waysIn(ask: Ask, node: Candidate): readonly Candidate[] {
  return alternatives(ask, node).map((way) => {
    const model = servedModel(ask, way);
    return model === undefined || way.models.length === 1 ? way : { ...way, models: [model] };
  });
}

export function isBefore(a: Place, b: Place): boolean {
  return a.cost < b.cost || (a.cost === b.cost && a.node.nodeId < b.node.nodeId);
}

/** A node with two models that would do has one place, the better one. */
function insert(places: Place[], place: Place, most: number): void {
  const last = places.at(-1);
  if (places.length >= most && (last === undefined || !isBefore(place, last))) return;
  const known = places.findIndex(({ node }) => node.nodeId === place.node.nodeId);
  if (known >= 0 && !isBefore(place, places[known] ?? place)) return;
  if (known >= 0) places.splice(known, 1);
  const at = places.findIndex((one) => isBefore(place, one));
  places.splice(at < 0 ? places.length : at, 0, place);
  if (places.length > most) places.pop();
}

/** The ways in to one model. */
class Field {
  readonly ways: readonly Candidate[];
  asked = 0;
  /** By constraint, and what of an ask it looks at: a bit for each way for which it holds. */
  readonly #sets: Map<string | number | boolean, Uint32Array>[] = CONSTRAINTS.map(
    () => new Map<string | number | boolean, Uint32Array>(),
  );
  readonly #meeting: Uint32Array;
  readonly #whole: Uint32Array;
  /** A bit for each way by which the model is loaded. */
  readonly loaded: Uint32Array;
  #figures: readonly ModelFigures[] | null = null;

  constructor(ask: Ask, ways: readonly Candidate[]) {
    this.ways = ways;
    this.#meeting = this.#setWhere(() => false);
    this.#whole = this.#setWhere(() => true);
    this.loaded = this.#setWhere((way) => servedModel(ask, way)?.loaded === true);
  }

  /** Each way that meets all of these, among some. */
  each(
    ask: Ask,
    constraints: readonly (readonly [number, Constraint])[],
    visit: (way: number) => void,
    among: Uint32Array = this.#whole,
  ): void {
    const meeting = this.#meeting;
    meeting.set(among);
    for (const [bit, constraint] of constraints) {
      const set = this.#setOf(ask, bit, constraint);
      for (let word = 0; word < meeting.length; word += 1) meeting[word] = (meeting[word] ?? 0) & (set[word] ?? 0);
    }
    for (let word = 0; word < meeting.length; word += 1)
      for (let left = meeting[word] ?? 0; left !== 0; left &= left - 1)
        visit(word * WORD_BITS + (WORD_BITS - 1 - Math.clz32(left & -left)));
  }

  /** What placing an ask on a way costs. */
  costs(ask: Ask): (way: number, node: Candidate) => number {
    if (ask.model === null)
      return (_way, node) => costOf(totalOf(scoreTerms(ask, node)), node.leasesActive, 0, ENGINES_STAND);
    const unit = unitOf(ask);
    this.#figures ??= this.ways.map((node) => {
      const model = servedModel(ask, node);
      return figuresOf(unit, model?.rates ?? {}, node.reputation, model);
    });
    const figures = this.#figures;
    const urgency = urgencyOf(unit, ask);
    return (way, node) => {
      const known = ask.cachedOn?.has(node.nodeId) === true ? undefined : figures[way];
      const fixed = known === undefined ? totalOf(scoreTerms(ask, node)) : sumOf(termsOf(known, urgency));
      return costOf(fixed, node.leasesActive, 0, ENGINES_STAND);
    };
  }

  /** Whether there was something to learn. */
  learn(ask: Ask, bit: number, constraint: Constraint): boolean {
    const { asked } = this;
    this.#setOf(ask, bit, constraint);
    return this.asked !== asked;
  }

  #setOf(ask: Ask, bit: number, { wish, holds }: Constraint): Uint32Array {
    const sets = this.#sets[bit];
    const key = wish?.(ask) ?? '';
    const known = sets?.get(key);
    if (known !== undefined) return known;
    const set = this.#setWhere((node) => holds(ask, node));
    this.asked += this.ways.length;
    sets?.set(key, set);
    return set;
  }

  #setWhere(holds: (way: Candidate) => boolean): Uint32Array {
    const set = new Uint32Array(Math.ceil(this.ways.length / WORD_BITS));
    for (let way = 0; way < this.ways.length; way += 1) {
      const node = this.ways[way];
      if (node !== undefined && holds(node)) set[way >> 5] = (set[way >> 5] ?? 0) | (1 << (way & 31));
    }
    return set;
  }
}
