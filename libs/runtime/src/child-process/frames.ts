/** Largest message between a node and its engine: 2,048 vectors of 3,072 values in base64 take 34 MB. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;

const HEADER_BYTES = 4;

/** What broke the framing; the other side is then not to be believed any further. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** One message as u32be length ‖ JSON. */
export function encodeFrame(message: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(message), 'utf8');
  if (body.length > FRAME_BYTES_MAX) {
    throw new FrameError(
      `A message of ${body.length} bytes is over the limit of ${FRAME_BYTES_MAX}: send fewer or shorter rows.`,
    );
  }
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

/** Cuts a byte stream into messages. The announced length is checked before anything of the body is kept. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** All messages that `chunk` completes. @throws {FrameError} On a length over the limit or a body that is no JSON. */
  push(chunk: Buffer): unknown[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const messages: unknown[] = [];
    for (;;) {
      if (this.#bytes < HEADER_BYTES) return messages;
      const length = this.#peek(HEADER_BYTES).readUInt32BE();
      if (length > FRAME_BYTES_MAX) {
        throw new FrameError(`A message of ${length} bytes was announced; the limit is ${FRAME_BYTES_MAX}.`);
      }
      if (this.#bytes < HEADER_BYTES + length) return messages;
      messages.push(parseBody(this.#take(HEADER_BYTES + length).subarray(HEADER_BYTES)));
    }
  }

  #peek(bytes: number): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= bytes) return first;
    this.#chunks = [Buffer.concat(this.#chunks, this.#bytes)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #take(bytes: number): Buffer {
    const all = this.#peek(bytes);
    const rest = all.subarray(bytes);
    this.#chunks[0] = rest;
    if (rest.length === 0) this.#chunks.shift();
    this.#bytes -= bytes;
    return all.subarray(0, bytes);
  }
}

function parseBody(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new FrameError(`A message of ${body.length} bytes was no JSON: ${String(error)}`);
  }
}
