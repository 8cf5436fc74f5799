import { expect, it } from '@jest/globals';
import type { SegmentOutput } from '@freehold/protocol';
import type { FineTuneView } from '../ports/fine-tune-store.ts';
import { evaluateResult } from './evaluate-result.ts';
import type { TrainingPorts } from './segment-works.ts';

const never = new AbortController().signal;
const output = (checkpoint: string): SegmentOutput => ({
  kind: 'segment',
  stateIn: 'a'.repeat(64),
  stateOut: 'b'.repeat(64),
  checkpoint,
  checkpointBytes: 1,
  toStep: 1,
  losses: [1],
  accuracies: [0],
  tokens: 1,
});

it('judges each last checkpoint by itself, once: what a voided lease had brought says nothing about the next one', async () => {
  const share: Readonly<Record<string, number>> = { bad: 0.1, good: 0.9 };
  const asked: string[] = [];
  let evaluated: FineTuneView['evaluated'] = null;
  const tune = (): unknown => ({
    job: { rowCount: 1 },
    asked: { evaluation: { fileId: 'file-1', exactMatchMin: 0.5 } },
    planned: { plan: { data: { sha256: 'data' } } },
    evaluated,
  });
  const ports = {
    fineTunes: {
      find: () => Promise.resolve(tune()),
      useBlobs: () => Promise.resolve(),
      note: () => Promise.resolve(),
      saveEvaluation: (_job: string, found: NonNullable<FineTuneView['evaluated']>) => {
        evaluated = found;
        return Promise.resolve();
      },
    },
    objects: {
      size: () => Promise.resolve(1),
      read: () => [],
      put: () => Promise.resolve({ bytes: 1, sha256: new Uint8Array(32) }),
      remove: () => Promise.resolve(),
    },
    blobs: { path: (sha256: string) => Promise.resolve(sha256) },
    bases: {
      with: (_plan: unknown, _data: string, use: (at: unknown) => unknown) =>
        Promise.resolve(
          use({
            evaluate: (checkpoint: string) => {
              asked.push(checkpoint);
              return Promise.resolve({ exactMatch: share[checkpoint] });
            },
          }),
        ),
    },
  } as unknown as TrainingPorts; // what an evaluation asks of them
  const passes = (checkpoint: string): Promise<boolean> =>
    evaluateResult(ports, 'ftjob-1', 0, output(checkpoint), never);
  expect([await passes('bad'), await passes('bad'), await passes('good'), await passes('good')]).toEqual([
    false,
    false,
    true,
    true,
  ]);
  expect(asked).toEqual(['bad', 'good']);
  expect(evaluated).toEqual({ checkpoint: 'good', exactMatch: 0.9, passed: true });
});
