import { describe, expect, it } from '@jest/globals';
import { withoutMarkup } from './readmes.ts';
import { rankOf, searchAll, spreadIndices } from './search.ts';

describe('the built-in job', () => {
  it('reads sentences out of Markdown', () => {
    const markdown =
      '# Title\n\n[![badge](https://x/y.svg)](https://x) A *small* [library](https://x) for `things`.\n\n```js\nrun();\n```\n\n| a | b |\n| - | - |\n\n<p align="center">Fast</p>\n[ref]: https://z\n';
    expect(withoutMarkup(markdown)).toBe('Title A small library for things. Fast');
  });

  it('ranks by cosine, not by length', () => {
    const documents = [
      [1, 0],
      [0, 9],
      [5, 5],
    ];
    expect(rankOf([2, 0.1], documents, 0)).toBe(1);
    expect(rankOf([2, 0.1], documents, 2)).toBe(2);
    expect(rankOf([2, 0.1], documents, 1)).toBe(3);
  });

  it('counts a query as found when its document is among the first five, and shows hits and misses', () => {
    const documents = Array.from({ length: 8 }, (_, i) => ({
      name: `d${i}`,
      vector: [Math.cos(i / 8), Math.sin(i / 8)],
    }));
    const result = searchAll(documents, [
      { text: 'near', vector: [1, 0], wanted: 0 },
      { text: 'far', vector: [1, 0], wanted: 7 },
    ]);
    expect(result).toMatchObject({ recallAt5: 0.5, queries: 2 });
    expect(result.shown.map((s) => s.rank)).toEqual([1, 8]);
  });

  it('spreads its queries evenly and never asks for more than there is', () => {
    expect(spreadIndices(10, 4)).toEqual([0, 2, 5, 7]);
    expect(spreadIndices(3, 64)).toEqual([0, 1, 2]);
  });
});
