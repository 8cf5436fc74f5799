/** A line of an input file: where it lies, and its text when it could be read. */
export interface InputLine {
  /** From 1, as editors count. */
  readonly line: number;
  readonly offset: number;
  readonly length: number;
  readonly text: string | null;
  readonly fault: 'too-long' | 'not-utf8' | null;
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf] as const;

/**
 * Cuts a stream into lines without ever holding more than one line and one chunk. Blank lines are passed over but counted;
 * a byte order mark and carriage returns at the end belong to no line. Of a line beyond `bytesMax` only its length is kept.
 */
export async function* inputLines(body: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<InputLine> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let parts: Uint8Array[] = [];
  let kept = 0;
  let length = 0;
  let offset = 0;
  let line = 1;

  const take = (chunk: Uint8Array): void => {
    length += chunk.length;
    // One byte beyond the limit is kept, so that the line is known to be too long.
    if (kept > bytesMax) return;
    parts.push(chunk);
    kept += chunk.length;
  };
  const end = (): InputLine | null => {
    const found = readLine(parts, length, { line, offset, bytesMax, decoder });
    offset += length + 1;
    line += 1;
    parts = [];
    kept = 0;
    length = 0;
    return found;
  };

  for await (const chunk of body) {
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, from)) {
      take(chunk.subarray(from, at));
      const found = end();
      if (found !== null) yield found;
      from = at + 1;
    }
    take(chunk.subarray(from));
  }
  const last = end();
  if (last !== null) yield last;
}

function readLine(
  parts: readonly Uint8Array[],
  length: number,
  at: { line: number; offset: number; bytesMax: number; decoder: { decode(bytes: Uint8Array): string } },
): InputLine | null {
  if (length > at.bytesMax + 1) return { line: at.line, offset: at.offset, length, text: null, fault: 'too-long' };
  let bytes = parts.length === 1 ? (parts[0] ?? new Uint8Array()) : joined(parts, length);
  let offset = at.offset;
  if (at.line === 1 && BYTE_ORDER_MARK.every((byte, index) => bytes[index] === byte)) {
    bytes = bytes.subarray(BYTE_ORDER_MARK.length);
    offset += BYTE_ORDER_MARK.length;
  }
  if (bytes.at(-1) === CARRIAGE_RETURN) bytes = bytes.subarray(0, -1);
  const place = { line: at.line, offset, length: bytes.length };
  if (bytes.length > at.bytesMax) return { ...place, text: null, fault: 'too-long' };
  try {
    const text = at.decoder.decode(bytes);
    return text.trim() === '' ? null : { ...place, text, fault: null };
  } catch {
    // The decoder has one way to fail: bytes that are not UTF-8.
    return { ...place, text: null, fault: 'not-utf8' };
  }
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
