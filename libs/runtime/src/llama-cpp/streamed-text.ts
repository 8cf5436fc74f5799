/** Turns token ids into text. Ids may end within a character: the decoder then shows U+FFFD in its place. */
export type Decode = (tokens: readonly number[]) => string;

const REPLACEMENT = '\ufffd';
/** A character takes at most four byte tokens; more than that is not an unfinished character but a broken one. */
const UNFINISHED_TOKENS_MAX = 4;

export interface TextStep {
  /** What may be shown now. */
  readonly text: string;
  /** A stop string has been completed: nothing more is to be generated or shown. */
  readonly stopped: boolean;
}

/**
 * The text of a growing list of tokens, in pieces that never split a character and never show a part of a stop string.
 *
 * Each piece is the difference of two decodings that begin at the same token, since decoding a token alone drops what its
 * neighbours decide (leading spaces, characters spread over byte tokens). Provider and auditor both use it, so the same
 * ids have the same text everywhere.
 */
export class StreamedText {
  readonly #decode: Decode;
  readonly #stops: readonly string[];
  readonly #tokens: number[] = [];
  #from = 0;
  #shown = 0;
  #held = '';
  #stopped = false;

  constructor(decode: Decode, stops: readonly string[]) {
    this.#decode = decode;
    this.#stops = stops;
  }

  push(token: number): TextStep {
    if (this.#stopped) return { text: '', stopped: true };
    this.#tokens.push(token);
    return this.#show(this.#fresh(false), false);
  }

  /** What was held back, once it is known that no more tokens come. */
  finish(): TextStep {
    if (this.#stopped) return { text: '', stopped: true };
    return this.#show(this.#fresh(true), true);
  }

  #fresh(atEnd: boolean): string {
    const before = this.#decode(this.#tokens.slice(this.#from, this.#shown));
    const now = this.#decode(this.#tokens.slice(this.#from));
    const unfinished = now.endsWith(REPLACEMENT) && this.#tokens.length - this.#shown < UNFINISHED_TOKENS_MAX;
    if (now.length <= before.length || (unfinished && !atEnd)) return '';
    this.#from = this.#shown;
    this.#shown = this.#tokens.length;
    return now.slice(before.length);
  }

  #show(fresh: string, atEnd: boolean): TextStep {
    const text = this.#held + fresh;
    const ends = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (ends.length > 0) {
      this.#stopped = true;
      return { text: text.slice(0, Math.min(...ends)), stopped: true };
    }
    const keep = atEnd ? 0 : heldBack(text, this.#stops);
    this.#held = text.slice(text.length - keep);
    return { text: text.slice(0, text.length - keep), stopped: false };
  }
}

/** How many characters at the end of `text` may be the beginning of a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  let held = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > held; length -= 1) {
      if (text.endsWith(stop.slice(0, length))) held = length;
    }
  }
  return held;
}

/** The whole text of committed tokens, cut at the first stop string, and whether one was found. */
export function textOf(tokens: readonly number[], decode: Decode, stops: readonly string[]): TextStep {
  const streamed = new StreamedText(decode, stops);
  let text = '';
  for (const token of tokens) {
    const step = streamed.push(token);
    text += step.text;
    if (step.stopped) return { text, stopped: true };
  }
  const last = streamed.finish();
  return { text: text + last.text, stopped: last.stopped };
}
