import type { BuiltInResult } from './built-in-job.ts';
import type { FineTuneResult } from './fine-tune.ts';
import type { FinishedBatch } from './run-batch.ts';

/** What the main job came back with: what the scorecard measures. */
export interface Run {
  readonly builtIn: BuiltInResult | null;
  readonly batches: readonly FinishedBatch[];
  readonly rowsIn: readonly number[];
  readonly fineTune?: FineTuneResult;
}
