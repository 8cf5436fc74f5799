import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '@freehold/market';
import { heapFlags } from '../child-process/confinement.ts';
import { childTrainer, type ChildTrainer, type ChildTrainerSpec } from './child-trainer.ts';

/** What the reference trainer takes for freehold-tiny with examples up to its whole context. */
export const REFERENCE_TRAINER_MEMORY_MIB = 768;

/** The built process beside this file; sources (tests) use the build's. */
function entry(): string {
  const beside = import.meta.url.endsWith('.ts') ? '../../dist/trainer/reference/main.js' : './reference/main.js';
  return fileURLToPath(new URL(beside, import.meta.url));
}

/** The reference trainer in a process of its own: TypeScript and WebAssembly, on any machine that runs the node. */
export function referenceTrainer(
  spec: Omit<ChildTrainerSpec, 'command' | 'args' | 'memoryMib'> & {
    readonly memoryMib?: number;
    /** More of Node's own flags, for tests that run under other compilers of V8. */
    readonly nodeFlags?: readonly string[];
  } = {},
): ChildTrainer {
  const { memoryMib = REFERENCE_TRAINER_MEMORY_MIB, nodeFlags = [], ...rest } = spec;
  const script = entry();
  if (!existsSync(script))
    throw new TrainerError('process_not_started', `${script} is missing: run \`npm run build\`.`, false);
  return childTrainer({
    ...rest,
    memoryMib,
    command: process.execPath,
    args: [...heapFlags(memoryMib), ...nodeFlags, script],
  });
}
