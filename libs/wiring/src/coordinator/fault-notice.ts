import { failureOf } from '@freehold/chain';
import type { Log } from './log.ts';

/** Of endpoints that disagree each says what it saw. */
const SAID_MAX = 1_000;

/**
 * Says once that something fails and once that it goes again, however often it is tried meanwhile; a fault of another kind is a
 * change as well. Block numbers and addresses in an endpoint's words are none.
 */
export class FaultNotice {
  readonly #what: string;
  readonly #log: Pick<Log, 'info' | 'warn'>;
  #kind: string | null = null;
  #tries = 0;

  /** @param what Is tried: the words of both lines. */
  constructor(what: string, log: Pick<Log, 'info' | 'warn'>) {
    this.#what = what;
    this.#log = log;
  }

  failed(error: unknown): void {
    this.#tries += 1;
    const said = failureOf(error, SAID_MAX);
    const kind = kindOf(said);
    if (kind !== this.#kind) this.#log.warn({ error: said }, `${this.#what} fails`);
    this.#kind = kind;
  }

  well(): void {
    if (this.#kind !== null) this.#log.info({ tries: this.#tries }, `${this.#what} goes again`);
    this.#kind = null;
    this.#tries = 0;
  }
}

/** Endpoints name what they were asked, and that is another block at every try. */
function kindOf(said: string): string {
  return said.replaceAll(/0x[0-9a-f]+|[0-9]+/gi, '#');
}
