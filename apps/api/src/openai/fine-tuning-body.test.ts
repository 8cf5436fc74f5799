import { describe, expect, it } from '@jest/globals';
import { JOB_STATES, type JobState } from '@freehold/domain';
import type { FineTuneEvent, FineTuneView } from '@freehold/market';
import { parseFineTuningRequest, type SegmentOutput } from '@freehold/protocol';
import { schemaJudge } from '../../test/openai-schema.ts';
import { checkpointBody, eventBody, fineTuningBody, statusOf } from './fine-tuning-body.ts';

const judge = schemaJudge();
const NOW_MS = 1_800_000_000_000;
const PLANNED = {
  plan: { steps: 60, segmentSteps: 6, batch: { examples: 16 } },
  epochs: 3,
  learningRateMultiplier: 1,
} as unknown as NonNullable<FineTuneView['planned']>; // what an answer shows of a plan
const FAULT = { code: 'invalid_json_line', message: 'Line 3: no JSON.', param: 'training_file', line: 3 };

/** A job of ten segments that was in `state` since a minute ago. */
function tuneIn(
  state: JobState,
  more: Partial<FineTuneView> = {},
  job: Partial<FineTuneView['job']> = {},
): FineTuneView {
  const isPlanned = state !== 'validating';
  return {
    job: {
      id: 'ftjob-0123456789abcdef01234567',
      orgId: 'org_a',
      kind: 'fine-tune',
      state,
      endpoint: '/v1/fine_tuning/jobs',
      model: isPlanned ? 'trainer/freehold-tiny' : null,
      tuned: null,
      inputFileId: 'file-1',
      outputFileId: null,
      errorFileId: null,
      completionWindow: '24h',
      metadata: { team: 'a' },
      verify: 'spot',
      region: null,
      poolId: null,
      trust: 'operator-credits',
      cap: isPlanned ? 1_000n : null,
      charged: 0n,
      rateCaps: {},
      counted: null,
      worst: null,
      usage: null,
      rowCount: isPlanned ? 10 : 0,
      rowsSucceeded: 0,
      rowsFailed: 0,
      rowsEnded: 0,
      faults: state === 'failed' ? [FAULT, FAULT] : null,
      deadlineAtMs: NOW_MS + 3_600_000,
      createdAtMs: NOW_MS - 120_000,
      enteredAtMs: { [state]: NOW_MS - 60_000 },
      ...job,
    },
    asked: {
      base: 'freehold-tiny',
      suffix: 'desk',
      seed: 7,
      validationFileId: null,
      evaluation: null,
      hyperparameters: { epochs: 'auto', batchSize: 'auto', learningRateMultiplier: 'auto' },
      hasMethod: true,
      segmentSteps: null,
    },
    planned: isPlanned ? PLANNED : null,
    pausedAtMs: null,
    started: false,
    segmentsDone: 0,
    workedMs: 0,
    trainedTokens: 0n,
    modelName: state === 'completed' ? 'ft:freehold-tiny:a:desk:01234567' : null,
    evaluated: null,
    resultFileIds: state === 'completed' ? ['file-2'] : [],
    nowMs: NOW_MS,
    ...more,
  };
}
const finishOf = (tune: FineTuneView): unknown => fineTuningBody(tune)['estimated_finish'];
const atWork = (more: Partial<FineTuneView>): FineTuneView => tuneIn('in_progress', { started: true, ...more });

describe('the status of a fine-tuning job', () => {
  it.each<[string, FineTuneView, string]>([
    ['is validated', tuneIn('validating'), 'validating_files'],
    ['is paused before it was validated', tuneIn('validating', { pausedAtMs: NOW_MS }), 'validating_files'],
    ['waits for its first node', tuneIn('in_progress'), 'queued'],
    ['is paused before its first node', tuneIn('in_progress', { pausedAtMs: NOW_MS }), 'paused'],
    ['is trained', atWork({}), 'running'],
    ['is paused in the middle', atWork({ pausedAtMs: NOW_MS }), 'paused'],
    ['writes its result', tuneIn('finalizing', { started: true }), 'running'],
    ['is done', tuneIn('completed'), 'succeeded'],
    ['failed', tuneIn('failed'), 'failed'],
    ['was not done by its deadline', tuneIn('expired'), 'failed'],
    ['is being cancelled', tuneIn('cancelling'), 'cancelled'],
    ['was cancelled', tuneIn('cancelled'), 'cancelled'],
  ])('while it %s', (_, tune, status) => {
    expect(statusOf(tune)).toBe(status);
  });
});

describe('the estimated finish of a fine-tuning job', () => {
  it('is what is left at the pace of the nodes that worked on it', () => {
    expect(finishOf(atWork({ segmentsDone: 4, workedMs: 20_000 }))).toBe(NOW_MS / 1_000 + 30);
    expect(finishOf(atWork({ segmentsDone: 1, workedMs: 90_000 }))).toBe(NOW_MS / 1_000 + 810);
  });

  it('is now when every segment is delivered or its result is written', () => {
    expect(finishOf(atWork({ segmentsDone: 10, workedMs: 50_000 }))).toBe(NOW_MS / 1_000);
    const finalizing = tuneIn('finalizing', { started: true, segmentsDone: 10, workedMs: 50_000 });
    expect(finishOf(finalizing)).toBe(NOW_MS / 1_000);
  });

  it('is a whole second, and never null once there is a pace', () => {
    expect(finishOf(atWork({ segmentsDone: 3, workedMs: 10_001 }))).toBe(Math.floor(NOW_MS / 1_000 + (10.001 / 3) * 7));
  });

  it('is null before the first segment, and in every status but running', () => {
    expect(finishOf(atWork({ segmentsDone: 0, workedMs: 5_000 }))).toBeNull();
    const more = { started: true, segmentsDone: 4, workedMs: 20_000 };
    const others = JOB_STATES.filter((state) => state !== 'in_progress' && state !== 'finalizing');
    for (const state of others) expect([state, finishOf(tuneIn(state, more))]).toEqual([state, null]);
    expect(finishOf(atWork({ ...more, pausedAtMs: NOW_MS }))).toBeNull();
  });
});

describe('what is said of a fine-tuning job', () => {
  it('is null where there is nothing to say yet, and there when it is over', () => {
    const running = fineTuningBody(atWork({ trainedTokens: 500n }));
    expect(running).toMatchObject({ finished_at: null, trained_tokens: null, fine_tuned_model: null, error: null });
    const done = fineTuningBody(tuneIn('completed', { trainedTokens: 500n }));
    expect(done).toMatchObject({ finished_at: NOW_MS / 1_000 - 60, trained_tokens: 500, error: null });
  });

  it('names the first fault with its line and how many more there are, the deadline where that was it, and why the market cancelled it', () => {
    expect(fineTuningBody(tuneIn('failed'))['error']).toEqual({
      code: 'invalid_json_line',
      message: "Line 3: no JSON. (and 1 more: see the job's events)",
      param: 'training_file',
    });
    const uncovered = { code: 'order_closing', message: 'The order was closed.', param: null, line: null };
    for (const state of ['cancelling', 'cancelled'] as const) {
      expect(fineTuningBody(tuneIn(state, {}, { faults: [uncovered] }))['error']).toEqual({
        code: 'order_closing',
        message: 'The order was closed.',
        param: null,
      });
      expect(fineTuningBody(tuneIn(state))['error']).toBeNull();
    }
    expect(fineTuningBody(tuneIn('expired'))['error']).toMatchObject({ code: 'deadline_exceeded', param: null });
  });
});

const EVENT: FineTuneEvent = {
  id: 'ftevent-1',
  level: 'info',
  type: 'message',
  message: 'Created.',
  createdAtMs: NOW_MS,
};
const OUTPUT: SegmentOutput = {
  kind: 'segment',
  stateIn: 'a'.repeat(64),
  stateOut: 'b'.repeat(64),
  checkpoint: 'c'.repeat(64),
  checkpointBytes: 10,
  toStep: 6,
  losses: [2, 1.5],
  accuracies: [0.1, 0.4],
  tokens: 100,
};
const list = (data: readonly unknown[]): object => ({ object: 'list', data, has_more: false });

/** Beyond the published schema: what the market knows, and what the live API and its SDKs have. */
const ADDED = ['freehold', 'user_provided_suffix'];

describe("OpenAI's published schema of fine-tuning", () => {
  const tunes = [
    ...JOB_STATES.map((state) => tuneIn(state)),
    atWork({ segmentsDone: 4, workedMs: 20_000 }),
    atWork({ pausedAtMs: NOW_MS }),
    tuneIn('cancelled', {}, { faults: [{ code: 'order_closing', message: 'Closed.', param: null, line: null }] }),
  ];
  const checkpoint = checkpointBody(tuneIn('in_progress'), {
    id: 'ftckpt-1',
    segment: 0,
    output: OUTPUT,
    acceptedAtMs: NOW_MS - 5_000,
  });

  it('allows a job in every status, its events and its checkpoints, alone and listed, but for the named deviations', () => {
    if (judge === null) return console.info('skipped: no ../shared');
    const jobs = tunes.map(fineTuningBody);
    const events = [EVENT, { ...EVENT, type: 'metrics' as const, data: { step: 1, train_loss: 2 } }].map(eventBody);
    const first = { first_id: 'ftckpt-1', last_id: 'ftckpt-1' };
    const faults = [
      ...jobs.flatMap((job) => judge.faults('FineTuningJob', job)),
      ...judge.faults('ListPaginatedFineTuningJobsResponse', list(jobs)),
      ...events.flatMap((event) => judge.faults('FineTuningJobEvent', event)),
      ...judge.faults('ListFineTuningJobEventsResponse', list(events)),
      ...judge.faults('FineTuningJobCheckpoint', checkpoint),
      ...judge.faults('ListFineTuningJobCheckpointsResponse', { ...list([checkpoint]), ...first }),
      ...judge.faults('ListFineTuningJobCheckpointsResponse', { ...list([]), first_id: null, last_id: null }),
    ];
    expect(faults).toEqual([]);
    expect(judge.unused()).toEqual([]);
  });

  it('has no field that an answer leaves out, and no answer a field of its own but the named ones', () => {
    if (judge === null) return;
    const answers = { FineTuningJob: fineTuningBody(tuneIn('completed')), FineTuningJobEvent: eventBody(EVENT) };
    for (const [schema, answer] of Object.entries({ ...answers, FineTuningJobCheckpoint: checkpoint })) {
      const named = judge.properties(schema);
      expect([schema, named.filter((field) => !(field in answer))]).toEqual([schema, []]);
      expect(Object.keys(answer).filter((field) => !named.includes(field) && !ADDED.includes(field))).toEqual([]);
    }
  });

  it('dates a checkpoint from when it was accepted', () => {
    expect(checkpoint).toMatchObject({ created_at: NOW_MS / 1_000 - 5, step_number: 6, metrics: { train_loss: 1.5 } });
  });
});

const LEAST = { model: 'freehold-tiny', training_file: 'file-1' };
const GRADER = { type: 'string_check', name: 'same', input: 'a', reference: 'b', operation: 'eq' };
const supervised = (hyperparameters: object): object => ({ type: 'supervised', supervised: { hyperparameters } });
/** Every field of a request: values that are taken, and values that the schema allows and we refuse by name. */
const REQUEST_FIELDS: Readonly<
  Record<string, { readonly taken: readonly unknown[]; readonly refused: readonly unknown[] }>
> = {
  model: { taken: ['freehold-tiny', 'gpt-4o-mini'], refused: [] },
  training_file: { taken: ['file-abc123'], refused: [] },
  validation_file: { taken: ['file-abc123', null], refused: [] },
  hyperparameters: {
    taken: [
      {},
      { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' },
      { n_epochs: 50, batch_size: 256 },
    ],
    refused: [{ learning_rate_multiplier: 1_001 }],
  },
  suffix: { taken: ['custom-model-name', 'a'.repeat(64), null], refused: ['a b', '-a'] },
  integrations: { taken: [null, []], refused: [[{ type: 'wandb', wandb: { project: 'p' } }]] },
  seed: { taken: [0, 42, 2_147_483_647, null], refused: [] },
  method: {
    taken: [supervised({ n_epochs: 1, batch_size: 1, learning_rate_multiplier: 0.1 }), { type: 'supervised' }],
    refused: [
      { type: 'dpo', dpo: { hyperparameters: { beta: 'auto' } } },
      { type: 'reinforcement', reinforcement: { grader: GRADER } },
    ],
  },
  metadata: { taken: [null, {}, { team: 'a' }], refused: [] },
};

describe('a request in the words of the published schema', () => {
  const fields = Object.entries(REQUEST_FIELDS);
  it.each(fields)('is taken or refused by name: %s', (field, { taken, refused }) => {
    for (const value of taken) {
      const body = { ...LEAST, [field]: value };
      expect([value, parseFineTuningRequest(body, NOW_MS)]).toEqual([value, expect.objectContaining({ ok: true })]);
      if (judge !== null) expect([value, judge.faults('CreateFineTuningJobRequest', body)]).toEqual([value, []]);
    }
    for (const value of refused) {
      const body = { ...LEAST, [field]: value };
      const parsed = parseFineTuningRequest(body, NOW_MS);
      const param = expect.stringMatching(new RegExp(`^${field}\\b`));
      expect([value, parsed]).toEqual([value, { ok: false, problem: expect.objectContaining({ param }) }]);
      if (judge !== null) expect([value, judge.faults('CreateFineTuningJobRequest', body)]).toEqual([value, []]);
    }
  });

  it('has no field that is not in this table', () => {
    if (judge === null) return console.info('skipped: no ../shared');
    expect(judge.properties('CreateFineTuningJobRequest').sort()).toEqual(Object.keys(REQUEST_FIELDS).sort());
  });
});
