import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Gpu } from './nvidia-smi.ts';

const AMD_VENDOR = '0x1002';
const MIB = 1024 * 1024;

/**
 * AMD GPUs as the kernel's amdgpu driver shows them in `/sys/class/drm/card<N>/device`.
 *
 * No program of the vendor is needed, and the card's own name is not there: its PCI id stands for it.
 */
export function amdGpus(drmFolder: string): Gpu[] {
  return cardFolders(drmFolder).flatMap((card, index) => {
    const read = (file: string): string | null => readLine(join(drmFolder, card, 'device', file));
    const number = (file: string, unit: number): number | null => {
      const text = read(file);
      return text === null || !/^\d+$/u.test(text) ? null : Number(text) / unit;
    };
    const [total, used] = [number('mem_info_vram_total', MIB), number('mem_info_vram_used', MIB)];
    if (read('vendor') !== AMD_VENDOR || total === null || total <= 0) return [];
    const gpu: Gpu = {
      vendor: 'amd',
      index,
      uuid: `amd-${read('unique_id') ?? pciAddress(join(drmFolder, card, 'device'))}`,
      model: read('product_name') ?? `AMD ${read('device') ?? 'GPU'}`,
      vramMib: Math.floor(total),
      vramFreeMib: used === null ? null : Math.floor(total - used),
      utilisationPercent: number('gpu_busy_percent', 1),
      temperatureCelsius: null,
      powerWatt: null,
      powerLimitWatt: null,
      driver: 'amdgpu',
      computeCapability: null,
      pcieGeneration: null,
      mig: null,
    };
    return [gpu];
  });
}

/** `card0`, `card1`, … without their connectors (`card0-DP-1`), in order. */
function cardFolders(drmFolder: string): string[] {
  try {
    const cards = readdirSync(drmFolder).filter((name) => /^card\d+$/u.test(name));
    return cards.sort((a, b) => Number(a.slice(4)) - Number(b.slice(4)));
  } catch {
    // No such folder: no kernel graphics at all.
    return [];
  }
}

function readLine(path: string): string | null {
  try {
    const text = readFileSync(path, 'utf8').trim();
    return text === '' ? null : text;
  } catch {
    // Which files exist depends on card and kernel.
    return null;
  }
}

function pciAddress(device: string): string {
  try {
    return basename(realpathSync(device));
  } catch {
    // Gone between listing and reading.
    return 'unknown';
  }
}
