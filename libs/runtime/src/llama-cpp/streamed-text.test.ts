import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { StreamedText, textOf } from './streamed-text.ts';

/** A byte-level vocabulary, the hardest case: every token is one byte of UTF-8. */
const bytes = (tokens: readonly number[]): string => Buffer.from(tokens).toString('utf8');
const idsOf = (text: string): number[] => [...Buffer.from(text, 'utf8')];

function pieces(text: string, stops: readonly string[]): string[] {
  const streamed = new StreamedText(bytes, stops);
  const shown = idsOf(text).map((id) => streamed.push(id).text);
  return [...shown, streamed.finish().text].filter((piece) => piece !== '');
}

describe('streamed text', () => {
  it('never shows half a character', () => {
    expect(pieces('aé✓𝄞b', [])).toEqual(['a', 'é', '✓', '𝄞', 'b']);
  });

  it('adds up to the text of all tokens', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => expect(pieces(text, []).join('')).toBe(bytes(idsOf(text)))),
    );
  });

  it('shows broken bytes as replacement characters instead of waiting for ever', () => {
    const streamed = new StreamedText(bytes, []);
    const shown = [0xff, 0xff, 0xff, 0xff, 0x41].map((id) => streamed.push(id).text).join('') + streamed.finish().text;
    expect(shown).toBe('\ufffd\ufffd\ufffd\ufffdA');
    expect(textOf([0x41, 0xe2, 0x9c], bytes, []).text).toBe('A\ufffd');
  });

  it('ends before a stop string and shows no part of it', () => {
    expect(pieces('one\nEND two', ['END'])).toEqual(['o', 'n', 'e', '\n']);
    expect(textOf(idsOf('a###b'), bytes, ['###'])).toEqual({ text: 'a', stopped: true });
  });

  it('shows what only looked like a stop string', () => {
    expect(pieces('aENbEN', ['END']).join('')).toBe('aENbEN');
    expect(textOf(idsOf('aEN'), bytes, ['END'])).toEqual({ text: 'aEN', stopped: false });
  });

  it('obeys the stop string that ends first', () => {
    expect(textOf(idsOf('x--y=='), bytes, ['==', '--'])).toEqual({ text: 'x', stopped: true });
  });

  it('is cut as the whole text would be, for any text and stops', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b', 'é') }),
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 3 }), { maxLength: 4 }),
        (text, stops) => {
          const found = textOf(idsOf(text), bytes, stops);
          for (const stop of stops) expect(found.text.includes(stop)).toBe(false);
          expect(text.startsWith(found.text)).toBe(true);
          expect(found.stopped).toBe(stops.some((stop) => text.includes(stop)));
        },
      ),
    );
  });
});
