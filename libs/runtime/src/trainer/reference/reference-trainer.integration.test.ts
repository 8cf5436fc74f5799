import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import { trainerSuite } from '@freehold/testing';
import { CONTEXT_TOKENS, ensureGguf, MODEL_ID } from '../../../../../models/freehold-tiny/index.mjs';
import { referenceTrainer } from '../reference-process.ts';

const dir = mkdtempSync(join(tmpdir(), 'freehold-reference-'));
afterAll(() => rmSync(dir, { recursive: true }));

trainerSuite(
  'reference, in its process',
  () => referenceTrainer(),
  async () => {
    const { path } = await ensureGguf({ quantisation: 'Q8_0', dir });
    const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
    return { base: { model: MODEL_ID, path, sha256 }, contextTokens: CONTEXT_TOKENS };
  },
);
