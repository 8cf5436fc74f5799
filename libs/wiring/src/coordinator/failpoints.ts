/**
 * Places where a fault test lets a process die: before and after every call of a port. What lies between two calls is memory
 * only, so these are all the moments that differ for whoever comes next.
 *
 * A port that is wrapped costs a call; one that is not costs nothing, and without `FREEHOLD_FAILPOINT` none is.
 */
export class Failpoints {
  readonly #hit: (point: string) => void;

  /** @param hit is told every point that is passed, before the process goes on. What it throws, the caller of the port gets. */
  constructor(hit: (point: string) => void) {
    this.#hit = hit;
  }

  /** For real processes: dies by SIGKILL, without a word, when it passes the named point for the n-th time. */
  static dyingAt(armed: Failpoint): Failpoints {
    let left = armed.hit;
    return new Failpoints((point) => {
      if (point !== armed.point) return;
      left -= 1;
      if (left === 0) process.kill(process.pid, 'SIGKILL');
    });
  }

  /** For whatever is no port: says that this point is passed now. */
  pass(point: string): void {
    this.#hit(point);
  }

  /** The same port; every call of its methods passes `NAME.method:before` and, once it is settled well, `NAME.method:after`. */
  around<T extends object>(name: string, port: T): T {
    return new Proxy(port, {
      get: (target, member) => {
        const value: unknown = Reflect.get(target, member, target);
        if (typeof value !== 'function' || typeof member !== 'string' || member === 'constructor') return value;
        return (...args: unknown[]): unknown => {
          try {
            this.#hit(`${name}.${member}:before`);
          } catch (error) {
            // An async method says so by its promise: whoever started several at once waits for all of them.
            if (isAsync(value)) return Promise.reject(error as Error);
            throw error;
          }
          // Called on the port itself: its private fields know nothing of a proxy.
          const result: unknown = Reflect.apply(value, target, args);
          if (!(result instanceof Promise)) return result;
          return result.then((settled: unknown) => {
            this.#hit(`${name}.${member}:after`);
            return settled;
          });
        };
      },
    });
  }
}

function isAsync(method: object): boolean {
  return method.constructor.name === 'AsyncFunction';
}

export interface Failpoint {
  readonly point: string;
  /** Dies when it passes for the so-manieth time, from 1. */
  readonly hit: number;
}

/** `LeaseStore.accept:after`, or `LeaseStore.accept:after#3` for the third time. Null for anything else. */
export function parseFailpoint(text: string): Failpoint | null {
  const match = /^(\w+\.\w+:(?:before|after))(?:#([1-9]\d{0,5}))?$/.exec(text);
  return match === null ? null : { point: match[1] ?? '', hit: Number(match[2] ?? 1) };
}
