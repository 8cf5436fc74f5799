import type { Usage } from '../units/units.ts';
import type { Ask } from './ask.ts';

/** A typical row, to compare rates of several kinds by one number: 100 tokens in, 30 out, as many embedded. */
const TYPICAL_ROW: Usage = { inputToken: 100n, outputToken: 30n, embeddingToken: 100n, trainingToken: 100n };
const MS_PER_SECOND = 1_000n;
const WHOLE_MILLI = 1_000n;

/** The work that a price is compared over: a typical row, or a second of the GPUs asked for. */
export function unitOf(ask: Pick<Ask, 'model' | 'gpus' | 'gpuMilli'>): Usage {
  if (ask.model !== null) return TYPICAL_ROW;
  return { gpuMillisecond: (BigInt(ask.gpus) * BigInt(ask.gpuMilli) * MS_PER_SECOND) / WHOLE_MILLI };
}
