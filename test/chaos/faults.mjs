import { setTimeout as sleep } from 'node:timers/promises';
import { LEASE_MS } from '@freehold/protocol';
import { REORG_DEPTH_MAX } from './profiles.mjs';

/**
 * @import pg from 'pg'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 * @import { Random } from './random.mjs'
 *
 * @typedef {{ readonly task_id: string; readonly epoch: number; readonly row_to: number }} HeldLease
 * @typedef {House['nodes'] extends Map<string, infer N> ? N : never} Node
 */

/** @type {readonly [number, number]} */
const STOP_MS = [400, 3_000];
/**
 * Past its lease and past the reaper's turn, so that somebody else has the work when the node wakes up.
 *
 * @type {readonly [number, number]}
 */
const ABSENCE_MS = [LEASE_MS + 3_000, LEASE_MS + 8_000];
/** How long a lease may stay with a node that is away: a scheduler that had just started gave it 30 s more. */
const FENCED_MS = 60_000;
/** How long a killed process may take until it serves again, on a machine that does other things as well. */
const BACK_MS = 90_000;
const LOOK_MS = 100;
/** Of all processes this part may be away at once: whoever is left gives the faults something to hit. */
const AWAY_SHARE = 0.5;
/** A fault waits so long for work that it can hit: on a slow machine processes come back slower than they are killed. */
const WORK_WAIT_MS = 6_000;
const RETRY_MS = 1_000;

/**
 * Rows that somebody holds right now: what a fault must hit to mean anything.
 *
 * @param {pg.Pool} db
 * @param {string | null} [nodeId]
 */
export async function inFlight(db, nodeId = null) {
  const { rows } = await db.query(
    `SELECT count(*) AS n FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
      WHERE t.state IN ('leased', 'running', 'delivered') AND ($1::text IS NULL OR l.node_id = $1)`,
    [nodeId],
  );
  return Number(rows[0].n);
}

/**
 * What a node still works on itself: its results are not here yet, so nobody can accept them while it is away.
 *
 * @param {pg.Pool} db
 * @param {string} nodeId
 * @returns {Promise<HeldLease[]>}
 */
async function leasesHeld(db, nodeId) {
  const { rows } = await db.query(
    `SELECT l.task_id, l.epoch, t.row_to FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
      WHERE t.state IN ('leased', 'running') AND l.node_id = $1`,
    [nodeId],
  );
  return rows;
}

/**
 * @param {pg.Pool} db
 * @param {HeldLease} lease
 * @returns {Promise<string>} what became of a lease: 'held' while all of its rows are still its, else how it ended.
 */
async function fateOf(db, { task_id, epoch, row_to }) {
  const { rows } = await db.query(
    `SELECT CASE WHEN t.epoch > l.epoch OR t.row_to < $3 THEN 'fenced' ELSE coalesce(l.outcome, 'held') END AS fate
       FROM lease l JOIN task t ON t.id = l.task_id WHERE l.task_id = $1 AND l.epoch = $2`,
    [task_id, epoch, row_to],
  );
  return rows[0].fate;
}

/**
 * The processes of a house as targets. A fault takes one of them and returns at once; bringing it back goes on beside, so that
 * several may be away at the same time. Whatever does not come back is told by {@link settle}.
 */
export class Targets {
  #house;
  #db;
  #random;
  /** @type {string[]} */
  #deck = [];
  /** @type {Map<string, Promise<unknown>>} */
  #away = new Map();
  /** @type {string[]} */
  #failures = [];
  #closed = false;
  #arm;
  #calmAbsences;
  /** Whether the scheduler that runs may still die at a failpoint. */
  #armed = false;
  /** Nodes that are away for longer than their lease, now. */
  #absent = 0;
  /** Deaths at a failpoint, of schedulers that were armed. */
  failpointDeaths = 0;
  failpointDeathsInFlight = 0;
  /** Nodes that were away for longer than a lease they held; with `calmAbsences`, until it was taken from them. */
  absences = 0;

  /**
   * @param {object} parts
   * @param {House} parts.house
   * @param {pg.Pool} parts.db
   * @param {Random} parts.random
   * @param {() => string | undefined} parts.arm names the failpoint at which the next scheduler dies by itself, or undefined.
   * @param {boolean} parts.calmAbsences
   */
  constructor({ house, db, random, arm, calmAbsences }) {
    this.#calmAbsences = calmAbsences;
    this.#arm = arm;
    this.#house = house;
    this.#db = db;
    this.#random = random;
    this.#watchScheduler();
  }

  /** @param {string} name */
  #child(name) {
    const child = this.#house.child(name);
    if (child === undefined) throw new Error(`the house has no process ${name}`);
    return child;
  }

  /**
   * A shuffled deck, dealt again when it is empty: every process has its turn under every seed. Null while all are away.
   *
   * @param {(name: string) => boolean} [among]
   */
  next(among = () => true) {
    const names = ['scheduler', 'api', ...this.#house.nodes.keys()];
    if (this.#away.size >= names.length * AWAY_SHARE) return null;
    if (!this.#deck.some((name) => among(name))) this.#deck = this.#random.shuffled(names);
    const spared = this.#calmAbsences && this.#absent > 0 ? 'scheduler' : null;
    const at = this.#deck.findIndex((name) => name !== spared && !this.#away.has(name) && among(name));
    return at === -1 ? null : this.#deck.splice(at, 1)[0];
  }

  /**
   * Resolves when work is under way that a fault on this process would hit, or when it was waited for long enough.
   *
   * @param {string} name
   */
  async workOf(name) {
    const until = performance.now() + WORK_WAIT_MS;
    while (!(await this.#isBusy(name)) && performance.now() < until) await sleep(LOOK_MS);
  }

  /**
   * @param {string} name
   * @returns whether the killed process had work in flight.
   */
  async kill(name) {
    const busy = await this.#isBusy(name);
    const node = this.#house.nodes.get(name);
    const deaths = node?.deaths ?? 0;
    this.#child(name).signal('SIGKILL');
    // A node has a supervisor of its own; the coordinator's processes are started again by us, on the same ports.
    this.#leave(name, node === undefined ? this.#restart(name) : this.#returned(node, deaths));
    return busy;
  }

  /** @param {string} name */
  async stop(name) {
    const busy = await this.#isBusy(name);
    this.#pause(name, this.#random.between(...STOP_MS));
    return busy;
  }

  /**
   * A node that is away for longer than its lease, and then goes on as if nothing had been. It counts when the node held a lease,
   * with `calmAbsences` when it lost it: what it had sent before may still arrive, and each start of a scheduler gives 30 s more.
   *
   * @param {string} name
   * @returns false when it held nothing, so that it was let go at once.
   */
  async takeAway(name) {
    const child = this.#child(name);
    child.signal('SIGSTOP');
    const nodeId = this.#house.nodes.get(name)?.nodeId ?? '';
    const held = await leasesHeld(this.#db, nodeId).catch(() => []);
    const away = held.length === 0 ? Promise.resolve() : this.#absence(held);
    this.#leave(
      name,
      away.finally(() => void child.signal('SIGCONT')),
    );
    return held.length > 0;
  }

  /** When nobody is away any more. @throws {Error} naming what did not come back. */
  async allBack() {
    while (this.#away.size > 0) await Promise.all(this.#away.values());
    this.throwIfBroken();
  }

  /** When everything that was broken serves again, and nobody is armed. @throws {Error} naming what did not come back. */
  async settle() {
    this.#arm = () => undefined;
    while (this.#away.size > 0) await Promise.all(this.#away.values());
    if (this.#armed) await this.kill('scheduler');
    while (this.#away.size > 0) await Promise.all(this.#away.values());
    this.#closed = true;
    if (this.#failures.length > 0) throw new Error(this.#failures.join('; '));
  }

  throwIfBroken() {
    if (this.#failures.length > 0) throw new Error(this.#failures.join('; '));
  }

  /** @param {readonly HeldLease[]} held */
  async #absence(held) {
    this.#absent += 1;
    try {
      await sleep(this.#random.between(...ABSENCE_MS));
      if (!this.#calmAbsences || (await this.#isFenced(held))) this.absences += 1;
    } finally {
      this.#absent -= 1;
    }
  }

  /**
   * Waits for what becomes of leases while their node is away.
   *
   * @param {readonly HeldLease[]} held
   * @returns whether one of them was taken from it.
   */
  async #isFenced(held) {
    const until = performance.now() + FENCED_MS;
    for (;;) {
      // Postgres may be away as well: asked again.
      const fates = await Promise.all(held.map((lease) => fateOf(this.#db, lease))).catch(() => ['held']);
      if (!fates.includes('held')) return fates.some((fate) => fate !== 'accepted');
      if (performance.now() > until) {
        const away = (ABSENCE_MS[0] + FENCED_MS) / 1_000;
        throw new Error(`it was away for more than ${away} s and its lease is still its own`);
      }
      await sleep(LOOK_MS);
    }
  }

  /**
   * @param {string} name
   * @param {number} ms
   */
  #pause(name, ms) {
    const child = this.#child(name);
    child.signal('SIGSTOP');
    this.#leave(
      name,
      sleep(ms).then(() => void child.signal('SIGCONT')),
    );
  }

  /**
   * @param {string} name
   * @param {Promise<unknown>} back
   */
  #leave(name, back) {
    const settled = back
      .catch((/** @type {Error} */ error) => this.#failures.push(`${name} did not come back: ${error.message}`))
      .finally(() => this.#away.delete(name));
    this.#away.set(name, settled);
  }

  /** @param {string} name */
  #isBusy(name) {
    return inFlight(this.#db, this.#house.nodes.get(name)?.nodeId ?? null).then(
      (n) => n > 0,
      () => false,
    );
  }

  /** @param {string} name One of the coordinator's processes. */
  async #restart(name) {
    const role = name === 'scheduler' ? name : 'api';
    await this.#child(name).exited;
    const until = performance.now() + BACK_MS;
    const failpoint = name === 'scheduler' ? this.#arm() : undefined;
    /** @type {{ FREEHOLD_FAILPOINT?: string }} */
    const environment = failpoint === undefined ? {} : { FREEHOLD_FAILPOINT: failpoint };
    for (;;) {
      try {
        if (name === 'scheduler') this.#armed = environment.FREEHOLD_FAILPOINT !== undefined;
        await this.#house.startProcess(role, { ...environment });
        return;
      } catch (error) {
        // Postgres may be away as well, or its failpoint may lie on its way up: a supervisor would try again too.
        if (performance.now() > until) throw error;
        if (environment.FREEHOLD_FAILPOINT !== undefined) this.failpointDeaths += 1;
        delete environment.FREEHOLD_FAILPOINT;
        await sleep(RETRY_MS);
      }
    }
  }

  /**
   * @param {Node} node
   * @param {number} deaths
   */
  async #returned(node, deaths) {
    const until = performance.now() + BACK_MS;
    while (node.deaths === deaths) {
      if (performance.now() > until) throw new Error(`no ready line within ${BACK_MS / 1_000} s`);
      await sleep(LOOK_MS);
    }
  }

  /** An armed scheduler dies when it likes: noticed here, counted, started again unarmed. */
  async #watchScheduler() {
    while (!this.#closed) {
      await sleep(LOOK_MS);
      if (this.#away.has('scheduler') || this.#house.child('scheduler')?.isRunning !== false) continue;
      this.failpointDeaths += 1;
      if (await this.#isBusy('scheduler')) this.failpointDeathsInFlight += 1;
      this.#leave('scheduler', this.#restart('scheduler'));
    }
  }
}

/** @param {pg.Pool} db */
export async function wipeQueue(db) {
  await db.query('DROP SCHEMA IF EXISTS bullmq CASCADE');
}

/**
 * The chain forgets its last blocks, and our transactions in them: what a reorganisation does at its worst.
 *
 * @param {House} house
 * @param {Random} random
 */
export async function reorganise(house, random) {
  const depth = 1 + Math.floor(random.next() * REORG_DEPTH_MAX);
  await rpc(house, 'anvil_reorg', [depth, []]);
}

/**
 * The chain's clock jumps, so that an epoch or its window is over.
 *
 * @param {House} house
 * @param {number} seconds
 */
export async function passChainTime(house, seconds) {
  await rpc(house, 'evm_increaseTime', [seconds]);
  await rpc(house, 'evm_mine', []);
}

/**
 * @param {House} house
 * @param {string} method
 * @param {readonly unknown[]} params
 */
async function rpc(house, method, params) {
  const response = await fetch(house.rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: AbortSignal.timeout(10_000),
  });
  const { result, error } = /** @type {{ result?: unknown; error?: { message: string } }} */ (await response.json());
  if (error !== undefined) throw new Error(`${method}: ${error.message}`);
  return result;
}
