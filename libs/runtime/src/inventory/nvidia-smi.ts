/** One GPU as its driver reports it. Null is what the driver does not say, which is never taken for zero. */
export interface Gpu {
  readonly vendor: 'nvidia' | 'amd';
  readonly index: number;
  readonly uuid: string;
  readonly model: string;
  readonly vramMib: number;
  readonly vramFreeMib: number | null;
  readonly utilisationPercent: number | null;
  readonly temperatureCelsius: number | null;
  readonly powerWatt: number | null;
  readonly powerLimitWatt: number | null;
  readonly driver: string;
  readonly computeCapability: string | null;
  readonly pcieGeneration: number | null;
  readonly mig: boolean | null;
}

/** Everything we show. One field that the installed driver does not know fails the whole query. */
export const FULL_FIELDS = [
  'index',
  'uuid',
  'name',
  'memory.total',
  'memory.free',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'power.limit',
  'driver_version',
  'compute_cap',
  'pcie.link.gen.current',
  'mig.mode.current',
] as const;

/** What drivers have known for ten years, and all that an offer must have. */
export const MINIMAL_FIELDS = ['index', 'uuid', 'name', 'memory.total', 'memory.free', 'driver_version'] as const;

export type SmiField = (typeof FULL_FIELDS)[number];

const GPUS_MAX = 64;

export function smiArguments(fields: readonly SmiField[]): string[] {
  return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
}

/**
 * Parses `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`.
 *
 * `[N/A]`, `[Not Supported]`, `[Unknown Error]` and the like are null. A line without index, name or memory is no GPU that
 * could be offered (one that fell off the bus reports so) and is left out.
 */
export function parseSmi(output: string, fields: readonly SmiField[]): Gpu[] {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  return lines.slice(0, GPUS_MAX).flatMap((line) => {
    const gpu = gpuOf(cells(line, fields));
    return gpu === null ? [] : [gpu];
  });
}

/** Values by field. A name may hold a comma, no other field does: what is too many belongs to the name. */
function cells(line: string, fields: readonly SmiField[]): (field: SmiField) => string | null {
  const parts = line.split(',').map((part) => part.trim());
  const extra = parts.length - fields.length;
  const nameAt = fields.indexOf('name');
  if (extra > 0 && nameAt >= 0) parts.splice(nameAt, extra + 1, parts.slice(nameAt, nameAt + extra + 1).join(', '));
  return (field) => {
    const at = fields.indexOf(field);
    const value = at < 0 ? undefined : parts[at];
    return value === undefined || value === '' || /^\[.*\]$|^N\/A$/u.test(value) ? null : value;
  };
}

function gpuOf(cell: (field: SmiField) => string | null): Gpu | null {
  const number = (field: SmiField): number | null => {
    const value = Number(cell(field) ?? Number.NaN);
    return Number.isFinite(value) ? value : null;
  };
  const [index, model, vramMib] = [number('index'), cell('name'), number('memory.total')];
  if (index === null || model === null || vramMib === null || vramMib <= 0) return null;
  const mig = cell('mig.mode.current');
  return {
    vendor: 'nvidia',
    index,
    uuid: cell('uuid') ?? `nvidia-${index}`,
    model,
    vramMib,
    vramFreeMib: number('memory.free'),
    utilisationPercent: number('utilization.gpu'),
    temperatureCelsius: number('temperature.gpu'),
    powerWatt: number('power.draw'),
    powerLimitWatt: number('power.limit'),
    driver: cell('driver_version') ?? 'unknown',
    computeCapability: cell('compute_cap'),
    pcieGeneration: number('pcie.link.gen.current'),
    mig: mig === null ? null : mig === 'Enabled',
  };
}
