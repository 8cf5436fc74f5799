import { describe, expect, it } from '@jest/globals';
import { SseReader } from './sse.ts';

function eventsOf(text: string, step: number): string[] {
  const reader = new SseReader();
  const events: string[] = [];
  for (let at = 0; at < text.length; at += step) events.push(...reader.push(text.slice(at, at + step)));
  return [...events, ...reader.finish()];
}

describe('server-sent events', () => {
  it('are the same however the stream is cut and whatever its line ends', () => {
    const text = ': ping\n\ndata: {"a":1}\n\nevent: x\ndata:two\ndata: lines\n\ndata: [DONE]\n\n';
    for (const step of [1, 2, 5, 100]) {
      expect(eventsOf(text, step)).toEqual(['{"a":1}', 'two\nlines', '[DONE]']);
      expect(eventsOf(text.replaceAll('\n', '\r\n'), step)).toEqual(['{"a":1}', 'two\nlines', '[DONE]']);
    }
  });

  it('count even when the server forgets the last blank line', () => {
    expect(eventsOf('data: last', 3)).toEqual(['last']);
  });

  it('have a limit', () => {
    const reader = new SseReader();
    expect(() => {
      for (let i = 0; i < 100; i += 1) reader.push('x'.repeat(10_000));
    }).toThrow('more than');
  });
});
