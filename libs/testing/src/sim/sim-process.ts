import type { Dice } from './dice.ts';
import type { VirtualTime } from './virtual-time.ts';

/** The call went out and nothing came back: it may have been done or not. */
export class ConnectionLost extends Error {
  constructor(call: string, isDone: boolean) {
    super(`connection lost ${isDone ? 'after' : 'before'} ${call}`);
    this.name = 'ConnectionLost';
  }
}

/** How rough the way between a process and what it stands on is. Shares are of all calls. */
export interface Weather {
  readonly latencyMsMax: number;
  /** The process dies right before or right after what it asked for is done. */
  readonly deaths: number;
  /** The call, or its answer, gets lost. */
  readonly losses: number;
}

export const CALM: Weather = { latencyMsMax: 4, deaths: 0, losses: 0 };

/** Methods of ports that answer at once, from memory. */
const AT_ONCE = new Set([
  'constructor',
  'nodes',
  'tell',
  'addresses',
  'peerId',
  'read',
  'bytes',
  'nowMs',
  'addPayee',
  'post',
  'finalise',
  'withdraw',
  'refund',
]);

/**
 * A process that can die between any two steps: every call of a port is a way out and a way back, and a dead process never hears
 * the answer. What it had in memory goes with it; what the stores committed stays.
 */
export class SimProcess {
  readonly name: string;
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #weather: () => Weather;
  readonly #onDeath: (name: string) => void;
  #isUp = true;
  calls = 0;

  constructor(
    name: string,
    parts: { time: VirtualTime; dice: Dice; weather: () => Weather; onDeath: (name: string) => void },
  ) {
    this.name = name;
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.#weather = parts.weather;
    this.#onDeath = parts.onDeath;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  kill(): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.#onDeath(this.name);
  }

  /** The same port as this process reaches it. */
  reach<T extends object>(name: string, port: T): T {
    return new Proxy(port, {
      get: (target, member) => {
        const value: unknown = Reflect.get(target, member, target);
        if (typeof value !== 'function') return value;
        if (AT_ONCE.has(String(member))) return (value as () => unknown).bind(target);
        return (...args: unknown[]): Promise<unknown> =>
          this.#call(`${name}.${String(member)}`, () => Reflect.apply(value, target, args) as Promise<unknown>);
      },
    });
  }

  /** Resolves after so long, unless the process dies meanwhile. */
  async sleep(ms: number): Promise<void> {
    await this.#time.sleep(ms);
    if (!this.#isUp) await death();
  }

  /** Does `work` again and again until the process dies. */
  repeat(everyMs: number, work: () => Promise<void>, report: (error: unknown) => void): void {
    const turn = (): void => {
      if (!this.#isUp) return;
      work()
        .catch(report)
        .finally(() => {
          this.#time.after(everyMs, turn);
        });
    };
    turn();
  }

  async #call(name: string, work: () => Promise<unknown>): Promise<unknown> {
    this.calls += 1;
    const { deaths, losses } = this.#weather();
    const luck = this.#dice.unit();
    await this.#hop();
    if (luck < deaths) return this.#die();
    if (luck < deaths + losses / 2) throw new ConnectionLost(name, false);
    const settled = await outcomeOf(work);
    if (luck > 1 - deaths) return this.#die();
    await this.#hop();
    if (luck > 1 - deaths - losses / 2) throw new ConnectionLost(name, true);
    if ('error' in settled) throw settled.error;
    return settled.value;
  }

  #die(): Promise<never> {
    this.kill();
    return death();
  }

  async #hop(): Promise<void> {
    if (!this.#isUp) await death();
    await this.sleep(1 + this.#dice.unit() * this.#weather().latencyMsMax);
  }
}

async function outcomeOf(
  work: () => Promise<unknown>,
): Promise<{ readonly value: unknown } | { readonly error: unknown }> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error };
  }
}

/** What a dead process hears. */
function death(): Promise<never> {
  return new Promise(() => {
    // Nothing more happens in a dead process.
  });
}
