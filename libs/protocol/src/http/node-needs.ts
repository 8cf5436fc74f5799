import { ANY_NODE, isGpuModel, ISOLATIONS, LIST_MAX, type NodeNeeds } from '@freehold/domain';
import { refused, type Parsed } from './problem.ts';

/** The keys of `metadata` that ask something of the node itself. */
export const NODE_NEEDS = ['gpu_model', 'gpus', 'gpu_milli', 'vram_mib', 'isolation', 'reputation_floor'] as const;
type NodeNeed = (typeof NODE_NEEDS)[number];
type Pairs = Readonly<Record<string, string>>;

/** As offers bound them. */
const GPUS_MAX = 64;
const GPU_MILLI_MAX = 1_000;
/** 16 TiB: no GPU has as much, and every whole number up to it is exact. */
const VRAM_MIB_MAX = 16_777_216;
const SHARE_PATTERN = /^(0(\.[0-9]{1,3})?|1(\.0{1,3})?)$/;

const wholeNumber =
  (max: number) =>
  (text: string): number | null =>
    /^[1-9][0-9]{0,8}$/.test(text) && Number(text) <= max ? Number(text) : null;

/** How each is read, null when it is none; and what was expected instead. */
const READ: Readonly<
  Record<NodeNeed, { readonly expected: string; readonly read: (text: string) => Partial<NodeNeeds> | null }>
> = {
  gpu_model: {
    expected: `up to ${LIST_MAX} names with commas between, as offers list them (GET /market/v1/offers)`,
    read: (text) => {
      const names = text.split(',').map((name) => name.trim());
      return names.every(isGpuModel) && names.length <= LIST_MAX ? { gpuModels: [...new Set(names)] } : null;
    },
  },
  gpus: {
    expected: `a whole number of GPUs from "1" to "${GPUS_MAX}"`,
    read: (text) => only(wholeNumber(GPUS_MAX)(text), (gpus) => ({ gpus })),
  },
  gpu_milli: {
    expected: `a whole number of thousandths of each GPU from "1" to "${GPU_MILLI_MAX}"`,
    read: (text) => only(wholeNumber(GPU_MILLI_MAX)(text), (gpuMilli) => ({ gpuMilli })),
  },
  vram_mib: {
    expected: `a whole number of MiB from "1" to "${VRAM_MIB_MAX}", of each GPU`,
    read: (text) => only(wholeNumber(VRAM_MIB_MAX)(text), (vramMib) => ({ vramMib })),
  },
  isolation: {
    expected: `one of ${ISOLATIONS.join(', ')}, which is then the least`,
    read: (text) => only(ISOLATIONS.find((known) => known === text) ?? null, (isolation) => ({ isolation })),
  },
  reputation_floor: {
    expected: 'a share from "0" to "1" with at most three decimals, such as "0.95"',
    read: (text) => only(SHARE_PATTERN.test(text) ? Number(text) : null, (reputationFloor) => ({ reputationFloor })),
  },
};

function only<T>(value: T | null, needs: (value: T) => Partial<NodeNeeds>): Partial<NodeNeeds> | null {
  return value === null ? null : needs(value);
}

/** What `metadata` asks of the node itself. */
export function parseNodeNeeds(metadata: Pairs): Parsed<NodeNeeds> {
  let needs = ANY_NODE;
  for (const key of NODE_NEEDS) {
    const text = metadata[key];
    if (text === undefined) continue;
    const { expected, read } = READ[key];
    const one = read(text);
    if (one === null)
      return refused(
        'invalid_value',
        `metadata.${key} '${text.slice(0, 40)}': expected ${expected}.`,
        `metadata.${key}`,
      );
    needs = { ...needs, ...one };
  }
  return { ok: true, value: needs };
}

/** The same of a job that was taken: what could not be read then asks for nothing now. */
export function nodeNeedsOf(metadata: Pairs): NodeNeeds {
  const parsed = parseNodeNeeds(metadata);
  return parsed.ok ? parsed.value : ANY_NODE;
}
