import type { RequestWork, Work, WorkOutput } from '@freehold/protocol';
import { segmentFault } from './training/segment-works.ts';

/** A chat template adds a few tokens per message, and no tokenizer makes more tokens than bytes. */
const TEMPLATE_TOKENS_PER_MESSAGE = 16;

const utf8 = new TextEncoder();

/** Most input tokens that any tokenizer can honestly count for this work. */
export function unitsInMax(work: RequestWork): number {
  if (work.kind === 'chat') {
    return work.messages.reduce(
      (sum, message) => sum + utf8.encode(message.content).length + TEMPLATE_TOKENS_PER_MESSAGE,
      TEMPLATE_TOKENS_PER_MESSAGE,
    );
  }
  return work.inputs.reduce<number>(
    (sum, input) => sum + (typeof input === 'string' ? utf8.encode(input).length : input.length) + 2,
    0,
  );
}

/**
 * Level 0: what every single row must satisfy, without running anything again. Returns what is wrong, or null.
 * Units are counted here, from token ids: a report that says more is refused.
 */
export function rowFault(work: Work, output: WorkOutput): string | null {
  if (work.kind === 'segment') return segmentFault(work, output);
  if (output.kind === 'failed') return null;
  if (output.kind === 'segment' || output.kind !== work.kind) return `answered ${output.kind} to ${work.kind} work`;
  if (output.unitsIn > unitsInMax(work))
    return `counted ${output.unitsIn} input tokens where at most ${unitsInMax(work)} are possible`;
  if (output.kind === 'embedding') return vectorFault(work.kind === 'embedding' ? work.inputs.length : 0, output);
  return work.kind === 'chat' ? textFault(work.maxTokens, output) : null;
}

function textFault(maxTokens: number, output: Extract<WorkOutput, { kind: 'chat' }>): string | null {
  if (output.unitsOut > output.tokens.length)
    return `counted ${output.unitsOut} output tokens and sent ${output.tokens.length}`;
  if (output.unitsOut > maxTokens) return `wrote ${output.unitsOut} tokens where ${maxTokens} were allowed`;
  // 'length' before maxTokens is honest where prompt and answer fill the context, which is not known here. Claiming it falsely
  // only sells less, and an auditor finds such a text unfinished.
  return null;
}

function vectorFault(inputs: number, output: Extract<WorkOutput, { kind: 'embedding' }>): string | null {
  if (output.vectors.length !== inputs) return `${output.vectors.length} vectors for ${inputs} inputs`;
  for (const base64 of output.vectors) {
    const bytes = Buffer.from(base64, 'base64');
    if (bytes.length !== output.dimensions * 4)
      return `a vector of ${bytes.length} bytes where ${output.dimensions * 4} belong`;
    const vector = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < output.dimensions; i += 1)
      if (!Number.isFinite(vector.getFloat32(i * 4, true))) return 'a vector with a value that is no number';
  }
  return null;
}
