import { fileURLToPath } from 'node:url';
import { childTrainer, type ChildTrainer, type ChildTrainerSpec } from './child-trainer.ts';

/** Holds the Python package; from sources and from the build alike, as both lie two folders below the library's own. */
export const PEFT_TRAINER_FOLDER = fileURLToPath(new URL('../../peft-trainer/', import.meta.url));

/** The PEFT trainer in a process of its own: PyTorch, transformers and peft of the given Python, on its GPU where it has one. */
export function peftTrainer(
  spec: Omit<ChildTrainerSpec, 'command' | 'args'> & {
    /** Has what `requirements.txt` names. */ readonly python: string;
  },
): ChildTrainer {
  const { python, environment, ...rest } = spec;
  return childTrainer({
    ...rest,
    command: python,
    args: ['-m', 'freehold_trainer'],
    environment: {
      // Nothing is fetched at run time: the base is a folder on this machine.
      ...{ PYTHONPATH: PEFT_TRAINER_FOLDER, PYTHONDONTWRITEBYTECODE: '1', HF_HUB_OFFLINE: '1' },
      // What torch asks for before its matrix products repeat themselves.
      CUBLAS_WORKSPACE_CONFIG: ':4096:8',
      ...environment,
    },
  });
}
