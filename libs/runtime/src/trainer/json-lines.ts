/** A line over the limit, or one that is no JSON. */
export class LineError extends Error {
  override readonly name = 'LineError';
}

/** Cuts a byte stream into JSON lines. A line over the limit is refused before more of it is kept. */
export class LineReader {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** All lines that `chunk` ends. @throws {LineError} */
  push(chunk: Buffer): unknown[] {
    const values: unknown[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, end));
      const line = Buffer.concat(this.#chunks).toString('utf8').trim();
      this.#chunks = [];
      this.#bytes = 0;
      from = end + 1;
      if (line !== '') values.push(parsed(line));
    }
    this.#keep(chunk.subarray(from));
    return values;
  }

  #keep(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#bytes > this.#bytesMax)
      throw new LineError(`A line is longer than ${this.#bytesMax} bytes: messages name files, they do not hold them.`);
    if (piece.length > 0) this.#chunks.push(piece);
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new LineError(`Expected one JSON object per line, got ${JSON.stringify(line.slice(0, 80))}.`);
  }
}
