import type { Ask } from './ask.ts';

/** As many names as a list of a request may hold, and characters in a value of its metadata. */
export const LIST_MAX = 16;
const VALUE_CHARS_MAX = 512;
export const GPU_MODEL_CHARS_MAX = 64;
/** As a node's `--region` may be. */
export const REGION_PATTERN = /^[\w.-]{1,32}$/;
/** A reputation is asked for in thousandths. */
const SHARE_STEPS = 1_000;
/** A week: longer windows hold money for longer than anyone wants. */
export const WINDOW_MINUTES_MAX = 7 * 24 * 60;
const MINUTE_MS = 60_000;
/** The placement rounds the time left down, by less than a part in 32 ({@link inClass}); and a request is under way for some seconds. */
const ROUNDED = 32 / 31;
const UNDER_WAY_MS = 30_000;

/** Where a request says what a constraint looks at, as errors name it, and what it would say there. Null: it is left out; undefined: no request can say it. */
interface Wish {
  readonly param: string;
  readonly write: (less: Ask) => string | null | undefined;
}

/** What is asked for by each constraint that asking less would lift. Of the price, who knows what the job may count says it: see {@link MaxCostFor}. */
export const WISHES: Readonly<Record<string, Wish>> = {
  // The one ability that a request asks for is to wear the adapter of a fine-tune: the model under it needs none.
  capability: {
    param: 'model',
    write: ({ capabilities, model }) => (capabilities.length > 0 ? undefined : (model ?? undefined)),
  },
  'gpu-model': { param: 'metadata.gpu_model', write: ({ gpuModels }) => textOf(gpuModels) },
  'gpu-count': { param: 'metadata.gpus', write: ({ gpus }) => numberOf(gpus) },
  'gpu-share': { param: 'metadata.gpu_milli', write: ({ gpuMilli }) => numberOf(gpuMilli) },
  vram: { param: 'metadata.vram_mib', write: ({ vramMib }) => numberOf(vramMib) },
  region: { param: 'metadata.region', write: ({ regions }) => textOf(regions) },
  isolation: { param: 'metadata.isolation', write: ({ isolation }) => (isolation === 'none' ? null : isolation) },
  reputation: { param: 'metadata.reputation_floor', write: ({ reputationFloor }) => numberOf(reputationFloor) },
  price: { param: 'metadata.max_cost', write: () => undefined },
  deadline: { param: 'metadata.deadline', write: ({ deadlineInMs }) => `${Math.ceil(deadlineInMs / MINUTE_MS)}m` },
};

/** Where a batch says how long it may take at most. */
export const WINDOW = 'completion_window';
/** Where it says on how many nodes it begins. */
export const NODES_WISH = 'metadata.nodes';

/** The names as one value; null where there are none. */
function textOf(names: readonly string[]): string | null {
  return names.length === 0 ? null : names.join(',');
}

function numberOf(asked: number): string | null {
  return asked === 0 ? null : String(asked);
}

/** A list of names as a request may hold it: none at all, which allows everything, where it would be too long or a name is none. */
export function askableNames(names: readonly string[], isName: (name: string) => boolean): readonly string[] {
  const fits = names.length <= LIST_MAX && names.join(',').length <= VALUE_CHARS_MAX;
  return fits && names.every(isName) ? names : [];
}

export function isRegion(name: string): boolean {
  return REGION_PATTERN.test(name);
}

/** Names stand between commas, with or without blanks. What a node calls its GPU may be no such name. */
export function isGpuModel(name: string): boolean {
  return name !== '' && name.length <= GPU_MODEL_CHARS_MAX && name === name.trim() && !name.includes(',');
}

/** The highest reputation that a request can ask for and `reputation` meets. */
export function askableReputation(reputation: number): number {
  const steps = Math.round(reputation * SHARE_STEPS);
  return (steps / SHARE_STEPS <= reputation ? steps : steps - 1) / SHARE_STEPS;
}

/** The shortest deadline that a request can ask for and that leaves so many seconds; null where it is further off than any. */
export function askableDeadlineMs(seconds: number): number | null {
  const minutes = Math.ceil((seconds * 1_000 * ROUNDED + UNDER_WAY_MS) / MINUTE_MS);
  return minutes <= WINDOW_MINUTES_MAX ? minutes * MINUTE_MS : null;
}
