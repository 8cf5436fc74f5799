import { describe, expect, it } from '@jest/globals';
import { parseFineTuningRequest } from './fine-tuning-request.ts';
import { parseTrainingLine } from './training-line.ts';

const least = { model: 'm', training_file: 'file-1' };
const line = (...messages: object[]): string => JSON.stringify({ messages });
const user = { role: 'user', content: 'hi' };
const assistant = { role: 'assistant', content: 'hello' };

describe('a request for a fine-tune', () => {
  it('decides nothing that was left out but what has a fixed answer', () => {
    expect(parseFineTuningRequest(least, 0)).toMatchObject({
      ok: true,
      value: {
        hyperparameters: { epochs: 'auto', batchSize: 'auto', learningRateMultiplier: 'auto' },
        seed: null,
        suffix: null,
        validationFileId: null,
        evaluation: null,
        segmentSteps: null,
        deadlineInMs: 86_400_000,
      },
    });
  });

  it('takes a week at most, said as a duration or as an instant', () => {
    for (const deadline of ['168h', '1970-01-08T00:00:00Z'])
      expect(parseFineTuningRequest({ ...least, metadata: { deadline } }, 0)).toMatchObject({
        value: { deadlineInMs: 7 * 86_400_000 },
      });
    expect(parseFineTuningRequest({ ...least, metadata: { deadline: '2099-01-01T00:00:00Z' } }, 0)).toMatchObject({
      problem: { message: expect.stringContaining('an ISO 8601 instant in the future and at most a week from now.') },
    });
  });

  it('takes hyperparameters from the method, and from the old place', () => {
    const hyperparameters = { n_epochs: 3, batch_size: 'auto', learning_rate_multiplier: 0.5 };
    const expected = { epochs: 3, batchSize: 'auto', learningRateMultiplier: 0.5 };
    for (const body of [
      { ...least, method: { type: 'supervised', supervised: { hyperparameters } } },
      { ...least, hyperparameters },
    ])
      expect(parseFineTuningRequest(body, 0)).toMatchObject({ ok: true, value: { hyperparameters: expected } });
  });

  it.each([
    [{ ...least, method: { type: 'dpo' } }, 'method.type'],
    [{ ...least, integrations: [{ type: 'wandb' }] }, 'integrations'],
    [{ ...least, hyperparameters: { n_epochs: 0 } }, 'hyperparameters.n_epochs'],
    [{ ...least, hyperparameters: { n_epochs: 51 } }, 'hyperparameters.n_epochs'],
    [{ ...least, suffix: 'a b' }, 'suffix'],
    [{ ...least, suffix: 'x'.repeat(65) }, 'suffix'],
    [{ ...least, seed: -1 }, 'seed'],
    [{ ...least, metadata: { nodes: '2' } }, 'metadata.nodes'],
    [{ ...least, metadata: { segment_steps: '0' } }, 'metadata.segment_steps'],
    [{ ...least, metadata: { deadline: '169h' } }, 'metadata.deadline'],
    [{ ...least, metadata: { deadline: '1970-01-08T00:00:01Z' } }, 'metadata.deadline'],
    [{ ...least, metadata: { evaluation_file: 'file-2' } }, 'metadata.evaluation_min'],
    [{ ...least, metadata: { evaluation_min: '0.5' } }, 'metadata.evaluation_file'],
    [{ ...least, metadata: { evaluation_file: 'file-2', evaluation_min: '80%' } }, 'metadata.evaluation_min'],
    [{ model: 'm' }, 'training_file'],
  ])('names what is wrong: %j', (body, param) => {
    expect(parseFineTuningRequest(body, 0)).toMatchObject({ ok: false, problem: { param } });
  });
});

describe('a line of a training file', () => {
  it('is a chat that ends with an answer', () => {
    expect(parseTrainingLine(line({ role: 'developer', content: 'be kind' }, user, assistant))).toEqual({
      ok: true,
      value: { messages: [{ role: 'system', content: 'be kind' }, user, assistant], textBytes: 14 },
    });
  });

  it.each([
    ['{"messages": [', 'invalid_json_line'],
    ['[1]', 'invalid_value'],
    [line(user), 'invalid_value'],
    [line(user, user), 'invalid_value'],
    [line(assistant, assistant), 'invalid_value'],
    [line(user, { role: 'assistant', content: '' }), 'invalid_value'],
    [line(user, { role: 'assistant', content: null }), 'invalid_value'],
    [line(user, { role: 'tool', content: 'x' }, assistant), 'invalid_value'],
    [line(user, { ...assistant, weight: 0 }), 'invalid_value'],
    [line(user, { ...assistant, tool_calls: [] }), 'unsupported_value'],
    [line({ role: 'user', content: 'a\u0000b' }, assistant), 'invalid_value'],
  ])('is refused with a reason: %s', (text, code) => {
    expect(parseTrainingLine(text)).toMatchObject({ ok: false, problem: { code } });
  });

  it('is never quoted in what is said about it', () => {
    const refused = parseTrainingLine('{"messages": "my secret');
    expect(JSON.stringify(refused)).not.toContain('secret');
  });
});
