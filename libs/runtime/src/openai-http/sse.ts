import { EngineError } from '@freehold/market';

/** One event carries one token's text and at most twenty alternatives. */
const EVENT_CHARS_MAX = 256 * 1024;

/** Cuts a stream of server-sent events into the text of their `data` fields. Comments and other fields are passed over. */
export class SseReader {
  #rest = '';
  #data: string[] = [];

  push(piece: string): string[] {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/u);
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > EVENT_CHARS_MAX) {
      throw new EngineError(
        'engine_broken',
        `The engine sent an event of more than ${EVENT_CHARS_MAX} characters.`,
        true,
      );
    }
    const events: string[] = [];
    for (const line of lines) {
      if (line.startsWith('data:')) this.#data.push(line.slice(line.startsWith('data: ') ? 6 : 5));
      else if (line === '' && this.#data.length > 0) events.push(this.#data.splice(0).join('\n'));
    }
    return events;
  }

  /** What stood there without a blank line after it; some servers leave out the last one. */
  finish(): string[] {
    const events = this.push('\n');
    return this.#data.length > 0 ? [...events, this.#data.splice(0).join('\n')] : events;
  }
}
