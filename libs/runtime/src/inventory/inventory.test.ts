import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { inventory } from './inventory.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-inventory-'));
afterAll(() => rmSync(folder, { recursive: true }));
const nothing = { nvidiaSmi: join(folder, 'none'), drmFolder: join(folder, 'none'), containerMarks: [] };

function program(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe('the inventory of a machine', () => {
  it('is of class cpu where there is no GPU, and counts what is there', async () => {
    const found = await inventory(folder, nothing);
    expect(found).toMatchObject({ class: 'cpu', gpus: [], isolation: 'none' });
    expect(found.cpu.threads).toBeGreaterThan(0);
    expect(found.memoryMib).toBeGreaterThan(found.memoryFreeMib);
    expect(found.diskFreeMib).toBeGreaterThan(0);
  });

  it('sees that it stands in a container', async () => {
    expect(await inventory(folder, { ...nothing, containerMarks: [folder] })).toMatchObject({ isolation: 'container' });
  });

  it('asks an old driver again for less', async () => {
    const old = program(
      'old-smi',
      `case "$1" in *mig*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;; esac
echo '0, GPU-x, Tesla K80, 11441, 11000, 418.87'`,
    );
    const found = await inventory(folder, { ...nothing, nvidiaSmi: old });
    expect(found).toMatchObject({ class: 'nvidia', gpus: [{ model: 'Tesla K80', computeCapability: null }] });
  });

  it('goes on without a GPU when the driver is broken', async () => {
    const broken = program(
      'broken-smi',
      "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9",
    );
    expect(await inventory(folder, { ...nothing, nvidiaSmi: broken })).toMatchObject({ class: 'cpu', gpus: [] });
  });

  it('finds AMD cards where the kernel shows them, and nothing else that has a screen', async () => {
    const drm = join(folder, 'drm');
    const device = (card: string, files: Record<string, string>): void => {
      mkdirSync(join(drm, card, 'device'), { recursive: true });
      for (const [name, text] of Object.entries(files)) writeFileSync(join(drm, card, 'device', name), `${text}\n`);
    };
    device('card0', { vendor: '0x8086', device: '0x3e92' });
    device('card1', {
      vendor: '0x1002',
      device: '0x744c',
      unique_id: 'a1b2',
      mem_info_vram_total: String(24 * 1024 ** 3),
      mem_info_vram_used: String(1024 ** 3),
      gpu_busy_percent: '7',
    });
    mkdirSync(join(drm, 'card1-DP-1'));
    const found = await inventory(folder, { ...nothing, drmFolder: drm });
    expect(found.class).toBe('amd');
    expect(found.gpus).toEqual([
      expect.objectContaining({
        model: 'AMD 0x744c',
        uuid: 'amd-a1b2',
        vramMib: 24_576,
        vramFreeMib: 23_552,
        utilisationPercent: 7,
      }),
    ]);
  });
});
