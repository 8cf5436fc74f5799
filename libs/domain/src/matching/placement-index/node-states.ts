import { DomainError } from '../../errors.ts';
import { ANYWHERE, type Ask, type Candidate } from '../ask.ts';
import { CONSTRAINTS, takesWork } from '../constraints.ts';
import type { FleetEconomy } from '../score.ts';
import type { NodeOrder } from './node-order.ts';
import { NodeTable } from './node-table.ts';
import { OfferGroups } from './offer-groups.ts';
import { ServingNodes } from './serving-nodes.ts';
import { StateTable } from './state-table.ts';

const NONE = -1;

/** Of the moment, those that {@link takesWork} does not answer. */
const OF_LOAD = CONSTRAINTS.filter(
  ({ name, reads }) => reads === 'moment' && name !== 'benched' && name !== 'draining',
);
/** Constraints of the moment look at the node alone. */
const ANY_ASK: Ask = { ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: {}, deadlineInMs: 0 };

/** The nodes, and in which state each of them is: in none while it takes no work. */
export class NodeStates {
  readonly nodes: NodeTable;
  readonly states: StateTable;
  readonly groups: OfferGroups;
  readonly serving = new ServingNodes();
  readonly #order: NodeOrder;

  /** @param nodesMax As many there is room for at first. */
  constructor(nodesMax: number, gpusPerNodeMax: number, order: NodeOrder, economy: FleetEconomy) {
    this.#order = order;
    this.nodes = new NodeTable(nodesMax, gpusPerNodeMax);
    this.states = new StateTable(nodesMax, gpusPerNodeMax, order);
    this.groups = new OfferGroups(economy);
  }

  get bytes(): number {
    return this.nodes.bytes + this.states.bytes + this.serving.bytes + this.#order.bytes;
  }

  /** Adds a node, or takes in what is new about it. A newcomer has a number that is free. */
  put(node: Candidate): number {
    const { nodes } = this;
    if (node.gpus.length > nodes.stride)
      throw new DomainError({ code: 'INDEX_TOO_MANY_GPUS', gpus: node.gpus.length, max: nodes.stride });
    const number = nodes.numberOf(node.nodeId) ?? this.#register(node.nodeId);
    this.#takeIn(number, this.groups.of(node), takesWork(node));
    nodes.put(number, node);
    nodes.setFull(
      number,
      OF_LOAD.some(({ holds }) => !holds(ANY_ASK, node)),
    );
    this.settle(number);
    return number;
  }

  drop(nodeId: string): void {
    const number = this.nodes.numberOf(nodeId);
    if (number === undefined) return;
    this.#leaveState(number);
    this.#takeIn(number, this.nodes.groupOf[number] ?? 0, false);
    this.nodes.forget(nodeId, number);
  }

  /** Takes in how many leases a node holds, and whether it takes more. */
  setLoad(node: number, leasesActive: number, takesMore: boolean): void {
    this.nodes.load[node] = leasesActive;
    this.nodes.setFull(node, !takesMore);
    this.settle(node);
  }

  /** Keeps a node from all new work until {@link release}: it is reserved. */
  hold(node: number): void {
    this.nodes.held[node] = 1;
    this.settle(node);
  }

  release(node: number): void {
    this.nodes.held[node] = 0;
    this.settle(node);
  }

  #register(nodeId: string): number {
    const number = this.nodes.register(nodeId);
    this.states.makeRoom(this.nodes.capacity);
    this.#order.note(number, nodeId);
    return number;
  }

  /** The group that a node is in from now on, and whether it takes work. */
  #takeIn(number: number, group: number, takes: boolean): void {
    const { nodes } = this;
    const [before, wasAway] = [nodes.groupOf[number] ?? 0, nodes.isAway(number)];
    nodes.groupOf[number] = group;
    if (wasAway === !takes && (wasAway || before === group)) return;
    if (!wasAway) this.serving.change(before, -1);
    if (takes) this.serving.change(group, 1);
    nodes.setAway(number, !takes);
  }

  gpusOf(node: number): number {
    return this.groups.gpusOf(this.nodes.groupOf[node] ?? 0);
  }

  /** Moves a node to the state that it is in now, or out of all when it takes no work. */
  settle(node: number): void {
    if (this.nodes.takesWork(node)) this.#enterState(node);
    else this.#leaveState(node);
  }

  #enterState(node: number): void {
    const { nodes } = this;
    const gpus = this.gpusOf(node);
    nodes.sortFree(node, gpus);
    const state = this.states.intern(
      nodes.groupOf[node] ?? 0,
      nodes.cpuMilli[node] ?? 0,
      nodes.memoryMib[node] ?? 0,
      nodes.load[node] ?? 0,
      nodes.sorted,
      gpus,
    );
    const before = nodes.stateOf[node] ?? NONE;
    if (state === before) return;
    if (before !== NONE) this.states.leave(before, node);
    this.states.enter(state, node);
    nodes.stateOf[node] = state;
  }

  #leaveState(node: number): void {
    const before = this.nodes.stateOf[node] ?? NONE;
    if (before === NONE) return;
    this.states.leave(before, node);
    this.nodes.stateOf[node] = NONE;
  }
}
