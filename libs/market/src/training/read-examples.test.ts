import { expect, it } from '@jest/globals';
import { TRAINING_BYTES_MAX } from '@freehold/protocol';
import type { ObjectStore } from '../ports/object-store.ts';
import { readExamples } from './read-examples.ts';

it('refuses an oversized training file by its size, without reading a byte of it', async () => {
  const objects = {
    size: () => Promise.resolve(TRAINING_BYTES_MAX + 1),
    read: () => {
      throw new Error('it was read');
    },
  } as unknown as ObjectStore; // only read
  const { faults, examples } = await readExamples(objects, 'file-1', 'training_file');
  expect(examples).toBe(0);
  expect(faults).toEqual([
    {
      code: 'file_too_large',
      message: `The file has ${TRAINING_BYTES_MAX + 1} bytes: at most ${TRAINING_BYTES_MAX} are read.`,
      param: 'training_file',
      line: null,
    },
  ]);
});
