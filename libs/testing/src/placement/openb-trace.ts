import { readCsv, type TraceFile } from './trace-file.ts';

/** A machine of an openb node list. */
export interface TraceNode {
  readonly name: string;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  readonly gpus: number;
  /** Empty where it has none: it serves what asks for processors alone. */
  readonly gpuModel: string;
}

/** A pod of an openb pod list: so many GPUs, so much of each. */
export interface TracePod {
  readonly name: string;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  readonly gpus: number;
  readonly gpuMilli: number;
  readonly gpuModels: readonly string[];
}

const GPUS_MAX = 64;
const MILLI_MAX = 1_000;

export function readNodeList(file: string): TraceFile<TraceNode> {
  return readCsv(file, ['sn', 'cpu_milli', 'memory_mib', 'gpu', 'model'], (row) => {
    const gpus = row.whole('gpu', GPUS_MAX);
    return {
      name: row.text('sn'),
      cpuMilli: row.whole('cpu_milli', 2 ** 31),
      memoryMib: row.whole('memory_mib', 2 ** 31),
      gpus,
      gpuModel: gpus === 0 ? row.optional('model') : row.text('model'),
    };
  });
}

export function readPodList(file: string): TraceFile<TracePod> {
  return readCsv(file, ['name', 'cpu_milli', 'memory_mib', 'num_gpu', 'gpu_milli'], (row) => {
    const gpus = row.whole('num_gpu', GPUS_MAX);
    const gpuMilli = row.whole('gpu_milli', MILLI_MAX);
    if (gpus > 0 && gpuMilli === 0) throw new Error('gpu_milli is 0: expected 1..1000 where GPUs are asked for');
    return {
      name: row.text('name'),
      cpuMilli: row.whole('cpu_milli', 2 ** 31),
      memoryMib: row.whole('memory_mib', 2 ** 31),
      gpus,
      gpuMilli: gpus === 0 ? 0 : gpuMilli,
      gpuModels: row.optional('gpu_spec').split('|').filter(Boolean),
    };
  });
}
