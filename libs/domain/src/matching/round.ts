import { SEGMENTS_PER_LEASE_MAX } from '../training/segments.ts';
import { inClass, type Ask, type Candidate, type ServedModel } from './ask.ts';
import { LEASES_AHEAD, ROWS_UNACCEPTED_MAX } from './constraints.ts';
import type { Demand, Placement } from './demand.ts';
import { couldJoin, RESERVATIONS_MAX, rowsUnder, type GangDesk, type Moment, type Reservation } from './gang-desk.ts';
import { gangPlaces, memberAsk } from './gangs.ts';
import type { Choice, PlacementIndex, TaskClass } from './placement-index/placement-index.ts';
import { servedModel } from './served-model.ts';
import { memberRows, rowsFor } from './task-size.ts';

/** So long a task that came back waits for another node than the one that lost it; a task runs {@link TASK_TARGET_MS}. */
export const AVOID_MS = 10_000;
/** Kept nodes looked at for other work in one decision: eight gangs of sixty-four, for eight jobs that find no other place. */
const LENT_LOOKS_MAX = 4_096;

export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The index as it is kept from one decision to the next. */
export interface Kept {
  readonly index: PlacementIndex;
  /** By their numbers in the index; no node has a number that is free. */
  readonly nodes: (Mutable<Candidate> | undefined)[];
}

/** One decision: what each job gets, in the order of their turns. */
export class Round {
  readonly placements: Placement[] = [];
  readonly #kept: Kept;
  readonly #placementsMax: number;
  /** Models that a node has to load for what was decided: what another load of them is worth, the next decision knows. */
  readonly #loading = new Set<string>();
  readonly #desk: GangDesk;
  readonly #moment: Moment | null;
  #reserving = 0;
  #lentLooks = 0;

  constructor(kept: Kept, placementsMax: number, desk: GangDesk, moment: Moment | null) {
    this.#kept = kept;
    this.#placementsMax = placementsMax;
    this.#desk = desk;
    this.#moment = moment;
    for (const reservation of desk.reservations()) this.#hold(reservation);
  }

  /** The index is between decisions as the nodes are. */
  end(): void {
    for (const reservation of this.#desk.reservations()) this.#release(reservation);
  }

  job(demand: Demand): void {
    const ask = inClass(demand.ask);
    const { index } = this.#kept;
    // Nodes that serve other models share no rows of this one, and nobody waits for them: those that could serve it count.
    for (const returned of demand.queued) {
      // A task goes back to the node that lost it when no other could serve it, or when no other had room for a while.
      const isPatient =
        returned.lastNode !== null && (returned.waitedMs ?? 0) < AVOID_MS && index.serving(this.#classOf(ask)) > 1;
      const avoid = isPatient ? returned.lastNode : null;
      const found = this.#seat(ask, avoid) ?? this.#lent(ask, avoid, returned.rowTo - returned.rowFrom);
      if (found !== null) this.#take(ask.jobId, returned, found);
    }
    for (let rowFrom = demand.nextRow; rowFrom < demand.rowCount;) {
      const found = this.#seat(ask, null) ?? this.#lent(ask, null, 1);
      if (found === null) return;
      const rows = rowsFor(found.node, found.model, demand.rowCount - rowFrom, index.serving(found.task), ask.verify);
      const rowTo = rowFrom + Math.min(rows, found.rowsMax ?? rows);
      this.#take(ask.jobId, { taskId: null, epoch: 1, rowFrom, rowTo }, found);
      rowFrom = rowTo;
    }
  }

  /** Every member's lease, each on a node of its own that has nothing else under way, or none. Then the rest of its rows as any job's. */
  gang(demand: Demand, members: number): void {
    if (this.placements.length + members > this.#placementsMax || demand.rowCount - demand.nextRow < members) return;
    const { index } = this.#kept;
    const { jobId } = demand.ask;
    const own = this.#desk.of(jobId);
    if (own !== undefined) this.#release(own);
    const task = index.classOf(memberAsk(inClass(demand.ask)));
    const seats = (gangPlaces(index, task, members, demand.ask.cachedOn) ?? []).flatMap(
      (choice) => this.#seatOf(task, choice) ?? [],
    );
    if (seats.length < members) {
      if (this.#moment !== null) this.#reserve(demand.ask, members, index.serving(task), this.#moment);
      return;
    }
    this.#desk.begins(jobId, new Set(seats.map(({ node }) => node.nodeId)));
    let rowFrom = demand.nextRow;
    for (const [i, seat] of seats.entries()) {
      const rowTo =
        rowFrom + memberRows(seat.node, seat.model, demand.rowCount - rowFrom, members - i, demand.ask.verify);
      this.#take(jobId, { taskId: null, epoch: 1, rowFrom, rowTo }, seat);
      rowFrom = rowTo;
    }
    this.job({ ...demand, nextRow: rowFrom });
  }

  /** Keeps nodes for a gang that found too few, or keeps those that it has, others for what cannot be a member any more. */
  #reserve(ask: Ask, members: number, serving: number, moment: Moment): void {
    const own = this.#desk.of(ask.jobId);
    const isWhole = own?.nodeIds.every((id) => {
      const node = this.#node(id);
      return node !== undefined && couldJoin(ask, node);
    });
    let held: Reservation | null = isWhole === true ? (own ?? null) : null;
    if (held === null && serving >= members && this.#reserving < RESERVATIONS_MAX && this.#desk.mayTry(ask.jobId)) {
      this.#reserving += 1;
      held = this.#desk.reserve(
        ask,
        members,
        this.#kept.nodes.flatMap((node) => node ?? []),
        moment,
      );
    }
    this.#desk.begins(ask.jobId, null);
    if (held === null) this.#desk.end(ask.jobId, moment.nowMs);
    else this.#hold(held);
  }

  #hold({ nodeIds }: Reservation): void {
    for (const id of nodeIds) {
      const number = this.#kept.index.numberOf(id);
      if (number !== undefined) this.#kept.index.hold(number);
    }
  }

  #release({ nodeIds }: Reservation): void {
    for (const id of nodeIds) {
      const number = this.#kept.index.numberOf(id);
      if (number !== undefined) this.#kept.index.release(number);
    }
  }

  #node(id: string): Mutable<Candidate> | undefined {
    const number = this.#kept.index.numberOf(id);
    return number === undefined ? undefined : this.#kept.nodes[number];
  }

  /** A place on a node that is kept for a gang, for work that is over before the gang begins. */
  #lent(ask: Ask, avoid: string | null, rowsMin: number): Seat | null {
    const reservations = this.#moment === null ? [] : this.#desk.reservations();
    if (reservations.length === 0 || this.placements.length >= this.#placementsMax) return null;
    const { index } = this.#kept;
    const task = this.#classOf(ask);
    let least = Number.POSITIVE_INFINITY;
    let best: Seat | null = null;
    for (const reservation of reservations) {
      for (const id of reservation.nodeIds) {
        if (this.#lentLooks >= LENT_LOOKS_MAX) return best;
        this.#lentLooks += 1;
        const [number, node] = [index.numberOf(id), this.#node(id)];
        if (number === undefined || node === undefined || id === avoid) continue;
        const rowsMax = rowsUnder(reservation, task.ask, node, this.#moment?.nowMs ?? 0);
        if (rowsMax < rowsMin) continue;
        index.release(number);
        const choice = index.seatAt(task, number);
        index.hold(number);
        const seat = choice === null ? null : this.#seatOf(task, choice);
        if (choice === null || seat === null || choice.cost >= least) continue;
        least = choice.cost;
        best = { ...seat, rowsMax };
      }
    }
    return best;
  }

  /** One lease of a run: the task that came back first, or else the rows that nobody had yet. */
  run(demand: Demand): void {
    const ask = inClass(demand.ask);
    const [returned] = demand.queued;
    const rowFrom = returned?.rowFrom ?? demand.nextRow;
    const rowTo = returned?.rowTo ?? Math.min(demand.rowCount, rowFrom + SEGMENTS_PER_LEASE_MAX);
    if (rowTo <= rowFrom) return;
    const avoid = returned?.lastNode ?? null;
    const found = this.#seat(ask, avoid) ?? (avoid === null ? null : this.#seat(ask, null));
    if (found === null) return;
    const { taskId = null, epoch = 1 } = returned ?? {};
    this.#take(ask.jobId, { taskId, epoch, rowFrom, rowTo }, found);
  }

  #seat(ask: Ask, avoid: string | null): Seat | null {
    if (this.placements.length >= this.#placementsMax) return null;
    const task = this.#classOf(ask);
    const choice = this.#kept.index.best(task, avoid, ask.cachedOn);
    return choice === null ? null : this.#seatOf(task, choice);
  }

  #seatOf(task: TaskClass, { node: number }: Choice): Seat | null {
    const node = this.#kept.nodes[number];
    const model = node === undefined ? undefined : servedModel(task.ask, node);
    return node === undefined || model === undefined ? null : { node, model, task };
  }

  #classOf(ask: Ask): TaskClass {
    const isLoading = ask.loadGainS !== undefined && this.#loading.has(ask.model ?? '');
    const wished = isLoading ? { ...ask, loadGainS: 0 } : ask;
    return this.#kept.index.classOf(wished);
  }

  #take(
    jobId: string,
    { taskId, epoch, rowFrom, rowTo }: Pick<Placement, 'taskId' | 'epoch' | 'rowFrom' | 'rowTo'>,
    { node, model }: Seat,
  ): void {
    this.placements.push({ jobId, taskId, epoch, rowFrom, rowTo, nodeId: node.nodeId, model });
    if (!model.loaded) this.#loading.add(model.name);
    node.leasesActive += 1;
    node.rowsUnaccepted += rowTo - rowFrom;
    const takesMore = node.leasesActive < LEASES_AHEAD && node.rowsUnaccepted < ROWS_UNACCEPTED_MAX;
    const { index } = this.#kept;
    index.setLoad(index.numberOf(node.nodeId) ?? 0, node.leasesActive, takesMore);
  }
}

interface Seat {
  readonly node: Mutable<Candidate>;
  readonly model: ServedModel;
  readonly task: TaskClass;
  /** Of rows that are over in time; absent: any. */
  readonly rowsMax?: number;
}
