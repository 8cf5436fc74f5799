/** A request that is begun more often takes longer than nodes stay, and would be begun for ever. */
const BEGUN_MAX = 1_000;

const [WAITS, RUNS, DONE] = [0, 1, 2];

/** That each request waits, runs in one place and is done once. */
export class RequestProgress {
  readonly #state: Uint8Array;
  readonly #begun: Uint16Array;

  constructor(requests: number) {
    this.#state = new Uint8Array(requests);
    this.#begun = new Uint16Array(requests);
  }

  begun(row: number): void {
    this.#move(row, WAITS, RUNS);
    const times = (this.#begun[row] ?? 0) + 1;
    this.#begun[row] = times;
    if (times > BEGUN_MAX)
      throw new Error(
        `request ${row} was begun ${BEGUN_MAX} times and never ended: it takes longer than nodes stay. Expected a trace of shorter requests.`,
      );
  }

  done(row: number): void {
    this.#move(row, RUNS, DONE);
  }

  lost(row: number): void {
    this.#move(row, RUNS, WAITS);
  }

  assertAllDone(): void {
    const left = this.#state.findIndex((state) => state !== DONE);
    if (left !== -1) throw new Error(`request ${left} was never done`);
  }

  #move(row: number, from: number, to: number): void {
    const state = this.#state[row];
    if (state !== from) throw new Error(`request ${row} is in state ${state}, expected ${from} on its way to ${to}`);
    this.#state[row] = to;
  }
}
