import { describe, expect, it } from '@jest/globals';
import { AuditFromNode, NodeMessage, RowsFromNode, StreamFromNode } from '../index.ts';

const RUDE = 'no\u0000\u001b[31m \ud800memory';
const KIND = 'no??[31m ?memory';
const lease = { task: '00000000-0000-4000-8000-000000000001', epoch: 1 };

describe('words of a node', () => {
  it.each([
    ['refuse', NodeMessage, { type: 'refuse', lease }],
    ['refused rows', RowsFromNode, { type: 'refused' }],
    ['broken rows', RowsFromNode, { type: 'error', retryable: true }],
    ['a refused chat', StreamFromNode, { type: 'refused', id: 0 }],
    ['a broken chat', StreamFromNode, { type: 'error', id: 0, retryable: false }],
    ['a refused audit', AuditFromNode, { type: 'refused' }],
    ['a broken audit', AuditFromNode, { type: 'error' }],
  ])('carry nothing that no column takes: %s', (_what, schema, frame) => {
    expect(schema.parse({ ...frame, code: RUDE, message: RUDE })).toEqual({ ...frame, code: KIND, message: KIND });
  });

  it('carry nothing that no column takes where a row failed', () => {
    const failed = { kind: 'failed', code: RUDE, message: RUDE };
    expect(RowsFromNode.parse({ type: 'result', index: 0, output: failed })).toMatchObject({
      output: { code: KIND, message: KIND },
    });
    expect(() => RowsFromNode.parse({ type: 'result', index: 0, output: { ...failed, code: '' } })).toThrow(/code/);
  });

  it('are held to their length', () => {
    expect(() => RowsFromNode.parse({ type: 'refused', code: 'x'.repeat(65), message: '' })).toThrow(/64/);
  });
});
