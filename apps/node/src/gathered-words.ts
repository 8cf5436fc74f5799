import type { ChatDelta } from '@freehold/market';

/** Nobody reads faster: an engine that gives several tokens in this time would else cost a frame, a packet and an event for each. */
export const WORDS_EVERY_MS = 8;

/**
 * The pieces of one answer on their way out. The first leaves at once, and so does every other that comes later than
 * {@link WORDS_EVERY_MS} after the one before; what comes faster leaves together. Nothing is lost: {@link flush} sends the rest.
 */
export class GatheredWords {
  readonly #send: (delta: ChatDelta) => void;
  readonly #nowMs: () => number;
  #text = '';
  #tokens: number[] = [];
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  constructor(send: (delta: ChatDelta) => void, nowMs: () => number = () => performance.now()) {
    this.#send = send;
    this.#nowMs = nowMs;
  }

  push({ text, tokens }: ChatDelta): void {
    this.#text += text;
    this.#tokens.push(...tokens);
    const waitMs = this.#sentAtMs + WORDS_EVERY_MS - this.#nowMs();
    if (waitMs <= 0) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), waitMs);
  }

  /** What is gathered leaves now. */
  flush(): void {
    this.#rest();
    if (this.#text === '') return;
    const delta = { text: this.#text, tokens: this.#tokens };
    [this.#text, this.#tokens, this.#sentAtMs] = ['', [], this.#nowMs()];
    this.#send(delta);
  }

  /** What is gathered is not wanted any more. */
  drop(): void {
    this.#rest();
    [this.#text, this.#tokens] = ['', []];
  }

  #rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
