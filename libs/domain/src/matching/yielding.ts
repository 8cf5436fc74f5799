import type { Choice, PlacementIndex, TaskClass } from './placement-index/placement-index.ts';

/** Work that runs, and what it is worth to keep it running. */
export interface HeldWork {
  readonly workId: string;
  readonly task: TaskClass;
  readonly choice: Choice;
  /** What it pays in a second, millionths of the smallest token unit. */
  readonly value: number;
  /** How often it has yielded. */
  readonly yields: number;
}

/** After this many times work is left to finish, whatever comes. */
export const YIELDS_MAX = 3;
/** Nodes looked at for one piece of work: yielding is rare, and a good place is enough. */
const NODES_LOOKED_AT_MAX = 256;

export interface Yielding {
  readonly victims: readonly HeldWork[];
  readonly choice: Choice;
}

/**
 * Which work has to yield so that work worth more can run: on one node, worth less in sum, and least of all nodes looked at.
 *
 * Never a loop: each yielding raises what all running work is worth, by at least the difference, and no work yields more than
 * {@link YIELDS_MAX} times. Null when nothing of less value makes room. The index is as before afterwards.
 */
export function victimsFor(
  index: PlacementIndex,
  task: TaskClass,
  value: number,
  held: readonly HeldWork[],
): Yielding | null {
  const byNode = new Map<number, HeldWork[]>();
  for (const work of held) {
    if (work.value >= value || work.yields >= YIELDS_MAX) continue;
    const known = byNode.get(work.choice.node);
    if (known !== undefined) known.push(work);
    else if (byNode.size < NODES_LOOKED_AT_MAX) byNode.set(work.choice.node, [work]);
  }
  let best: Yielding | null = null;
  let least = value;
  for (const [node, works] of [...byNode].sort((a, b) => a[0] - b[0])) {
    const found = onNode(index, task, node, works, least);
    if (found === null) continue;
    best = found;
    least = valueOf(found.victims);
  }
  return best;
}

/** The least valuable work of one node, one after the other, until there is room; null when it is worth `below` or more by then. */
function onNode(
  index: PlacementIndex,
  task: TaskClass,
  node: number,
  works: readonly HeldWork[],
  below: number,
): Yielding | null {
  const inOrder = [...works].sort((a, b) => a.value - b.value || (a.workId < b.workId ? -1 : 1));
  const victims: HeldWork[] = [];
  let choice: Choice | null = null;
  for (const work of inOrder) {
    if (valueOf(victims) + work.value >= below) break;
    index.give(work.task, work.choice);
    victims.push(work);
    choice = index.seatAt(task, node);
    if (choice !== null) break;
  }
  for (const work of [...victims].reverse()) index.take(work.task, work.choice);
  return choice === null ? null : { victims, choice };
}

function valueOf(works: readonly HeldWork[]): number {
  return works.reduce((sum, { value }) => sum + value, 0);
}
