import { beforeEach, describe, expect, it } from '@jest/globals';
import type { JobView } from '@freehold/market';
import { CoordinatorUseCases } from './use-cases.ts';

const LINE = JSON.stringify({
  custom_id: 'a',
  method: 'POST',
  url: '/v1/embeddings',
  body: { model: 'embedder', input: 'a row' },
});
const MODEL = {
  ...{ name: 'embedder', kind: 'embedding', description: '', licence: '', ownedBy: '', created: 1 },
  ...{ contextTokens: 64, quantisation: 'F32', dimensions: 4, ceilings: { embeddingToken: '1' } },
};

describe('a batch that was read', () => {
  let steps: string[];
  let fails: string | null;
  let useCases: CoordinatorUseCases;
  const job = {
    ...{ id: 'batch_1', orgId: 'org', kind: 'batch', endpoint: '/v1/embeddings', inputFileId: 'file-1', metadata: {} },
    ...{ verify: 'off', region: null, model: 'embedder', rowCount: 1 },
  };
  const step = async (name: string): Promise<void> => {
    steps.push(name);
    if (fails === name) throw new Error(`no ${name}`);
  };
  const validate = (): Promise<void> =>
    useCases.validate('batch_1', new AbortController().signal, () => void steps.push('placed'));

  beforeEach(() => {
    [steps, fails] = [[], null];
    const isStarted = (): boolean => steps.includes('started');
    const parts = {
      jobs: {
        find: async () => ({ ...job, state: isStarted() ? 'in_progress' : 'validating' }) as unknown as JobView, // all that who waits looks at
        addRows: async () => true,
        start: () => step('started').then(() => ({ started: true })),
      },
      objects: {
        size: async () => LINE.length,
        read: async function* () {
          yield Buffer.from(LINE);
        },
      },
      offers: { offers: async () => [] },
      catalogue: { v: 1, models: [MODEL] },
      holdsModel: () => true,
      training: { fineTunes: {} },
      queueDesk: { started: () => step('expected') },
      report: (what: string) => steps.push(what),
    };
    useCases = new CoordinatorUseCases(parts as unknown as ConstructorParameters<typeof CoordinatorUseCases>[0]); // all that a submission reaches
  });

  it('is placed before anybody notes what is expected of it', async () => {
    await validate();
    expect(steps).toEqual(['started', 'placed', 'expected']);
  });

  it('is no less started where that cannot be noted, and what could not be started is looked at all the same', async () => {
    fails = 'expected';
    await validate();
    expect(steps).toEqual(['started', 'placed', 'expected', 'noting what is expected of a batch']);
    [steps, fails] = [[], 'started'];
    await expect(validate()).rejects.toThrow('no started');
    expect(steps).toEqual(['started', 'placed']);
  });
});
