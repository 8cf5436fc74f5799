import { describe, expect, it } from '@jest/globals';
import type { ChatDelta } from '@freehold/market';
import { GatheredWords, WORDS_EVERY_MS } from './gathered-words.ts';

function gathering(): { words: GatheredWords; sent: ChatDelta[]; at: { ms: number } } {
  const sent: ChatDelta[] = [];
  const at = { ms: 1_000 };
  return {
    words: new GatheredWords(
      (delta) => sent.push(delta),
      () => at.ms,
    ),
    sent,
    at,
  };
}

describe('words on their way out', () => {
  it('leave at once when they are the first, or come as slowly as a reader reads', () => {
    const { words, sent, at } = gathering();
    for (const token of [1, 2, 3]) {
      words.push({ text: `${token}`, tokens: [token] });
      at.ms += WORDS_EVERY_MS;
    }
    expect(sent.map(({ text }) => text)).toEqual(['1', '2', '3']);
  });

  it('leave together when they come faster, with every token, and the rest at the end', () => {
    const { words, sent, at } = gathering();
    for (const token of [1, 2, 3, 4, 5]) {
      words.push({ text: `${token}`, tokens: [token] });
      at.ms += WORDS_EVERY_MS / 4;
    }
    words.push({ text: '6', tokens: [6] });
    words.flush();
    words.flush();
    expect(sent).toEqual([
      { text: '1', tokens: [1] },
      { text: '2345', tokens: [2, 3, 4, 5] },
      { text: '6', tokens: [6] },
    ]);
  });

  it('leave by themselves when the engine falls silent, and not at all when nobody wants them', async () => {
    const { words, sent } = gathering();
    const dropped = gathering();
    for (const one of [words, dropped.words]) for (const text of ['a', 'b']) one.push({ text, tokens: [] });
    dropped.words.drop();
    await new Promise((resolve) => setTimeout(resolve, 4 * WORDS_EVERY_MS));
    expect(sent.map(({ text }) => text)).toEqual(['a', 'b']);
    expect(dropped.sent.map(({ text }) => text)).toEqual(['a']);
  });
});
