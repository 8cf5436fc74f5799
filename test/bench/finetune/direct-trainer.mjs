import { readFileSync } from 'node:fs';
import { referenceTrainer } from '@freehold/runtime';
import { segmentsOf } from '@freehold/protocol';

/**
 * @import { TrainedSegment, TrainedStep, TrainingFiles } from '@freehold/market'
 * @import { TrainingPlan } from '@freehold/protocol'
 */

/** Of /proc/PID/stat: Linux counts processor time in hundredths of a second everywhere. */
const TICKS_PER_SECOND = 100;
const never = new AbortController().signal;

/**
 * Processor time of a process in seconds; NaN where the system does not show it.
 *
 * @param {number | undefined} pid
 */
export function processorSeconds(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    // Not Linux: wall-clock figures remain.
    return Number.NaN;
  }
}

/**
 * The whole of a fine-tune with nothing between: a trainer's process from its start to its exported adapter, as `node` runs it.
 *
 * @param {TrainingPlan} plan
 * @param {TrainingFiles} files
 * @param {(step: TrainedStep) => void} [onStep]
 * @returns steps' figures (`seconds`, `processor`) beside those of the whole process (`wholeSeconds`, `wholeProcessor`).
 */
export async function trainDirectly(plan, files, onStep = () => undefined) {
  const begun = performance.now();
  const trainer = referenceTrainer();
  try {
    await trainer.plan(plan, files, never);
    const from = performance.now();
    const processorBefore = processorSeconds(trainer.pid);
    /** @type {number[]} */
    const losses = [];
    let tokens = 0;
    /** @type {TrainedSegment['checkpoint'][]} */
    const written = [];
    await trainer.run(
      { from: 0, to: segmentsOf(plan), checkpoint: null },
      {
        onStep: (step) => {
          tokens += step.tokens;
          losses.push(step.loss);
          onStep(step);
        },
        onSegment: (segment) => written.push(segment.checkpoint),
      },
      never,
    );
    const seconds = (performance.now() - from) / 1000;
    const processor = processorSeconds(trainer.pid) - processorBefore;
    const last = written[written.length - 1];
    const { files: exported } = await trainer.export(last.path, 'gguf-lora', never);
    return {
      tokens,
      losses,
      seconds,
      processor,
      wholeSeconds: (performance.now() - begun) / 1000,
      wholeProcessor: processorSeconds(trainer.pid),
      segmentBytes: last.bytes,
      adapter: exported[0],
    };
  } finally {
    await trainer.close();
  }
}
