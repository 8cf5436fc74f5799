import { describe, expect, it } from '@jest/globals';
import { inputLines, type InputLine } from './input-lines.ts';

const LIMIT = 20;

async function linesOf(bytes: Uint8Array, chunkBytes: number): Promise<InputLine[]> {
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  }
  const lines: InputLine[] = [];
  for await (const line of inputLines(body(), LIMIT)) lines.push(line);
  return lines;
}

describe('inputLines', () => {
  const text = Buffer.from('\ufeff{"a":1}\r\n\n  \n{"é":2}\n{"last":3}');

  it.each([1, 2, 3, 7, 1000])('finds the same lines in chunks of %i bytes', async (chunkBytes) => {
    const lines = await linesOf(text, chunkBytes);
    expect(lines.map((l) => [l.line, l.text])).toEqual([
      [1, '{"a":1}'],
      [4, '{"é":2}'],
      [5, '{"last":3}'],
    ]);
  });

  it('says where each line lies, so that it can be read alone', async () => {
    for (const line of await linesOf(text, 5)) {
      expect(text.subarray(line.offset, line.offset + line.length).toString()).toBe(line.text);
    }
  });

  it('keeps nothing of a line that is too long, and goes on after it', async () => {
    const lines = await linesOf(
      Buffer.from(`${'x'.repeat(LIMIT)}\n${'y'.repeat(LIMIT + 1)}\n${'z'.repeat(500)}\nok`),
      8,
    );
    expect(lines.map((l) => [l.line, l.fault, l.text])).toEqual([
      [1, null, 'x'.repeat(LIMIT)],
      [2, 'too-long', null],
      [3, 'too-long', null],
      [4, null, 'ok'],
    ]);
  });

  it('names bytes that are not UTF-8', async () => {
    const lines = await linesOf(Uint8Array.of(0x7b, 0xff, 0x7d, 0x0a, 0x31), 64);
    expect(lines.map((l) => l.fault)).toEqual(['not-utf8', null]);
  });

  it('finds no line in an empty file', async () => {
    expect(await linesOf(new Uint8Array(), 8)).toEqual([]);
  });
});
