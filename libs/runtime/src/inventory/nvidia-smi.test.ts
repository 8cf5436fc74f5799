import { describe, expect, it } from '@jest/globals';
import { FULL_FIELDS, MINIMAL_FIELDS, parseSmi, smiArguments } from './nvidia-smi.ts';

describe('nvidia-smi', () => {
  it('is asked for numbers without units', () => {
    expect(smiArguments(MINIMAL_FIELDS)).toEqual([
      '--query-gpu=index,uuid,name,memory.total,memory.free,driver_version',
      '--format=csv,noheader,nounits',
    ]);
  });

  it('describes each GPU, one a line', () => {
    const output = [
      '0, GPU-0c9b2f4e-1111-2222-3333-444455556666, NVIDIA H100 80GB HBM3, 81559, 80994, 3, 31, 69.84, 700.00, 550.54.15, 9.0, 5, Disabled',
      '1, GPU-1c9b2f4e-1111-2222-3333-444455556666, NVIDIA H100 80GB HBM3, 81559, 12, 100, 66, 688.10, 700.00, 550.54.15, 9.0, 5, Enabled',
      '',
    ].join('\n');
    const gpus = parseSmi(output, FULL_FIELDS);
    expect(gpus).toHaveLength(2);
    expect(gpus[0]).toEqual({
      vendor: 'nvidia',
      index: 0,
      uuid: 'GPU-0c9b2f4e-1111-2222-3333-444455556666',
      model: 'NVIDIA H100 80GB HBM3',
      vramMib: 81_559,
      vramFreeMib: 80_994,
      utilisationPercent: 3,
      temperatureCelsius: 31,
      powerWatt: 69.84,
      powerLimitWatt: 700,
      driver: '550.54.15',
      computeCapability: '9.0',
      pcieGeneration: 5,
      mig: false,
    });
    expect(gpus[1]).toMatchObject({ index: 1, vramFreeMib: 12, mig: true });
  });

  it('does not take what a card leaves open for zero', () => {
    const line =
      '0, GPU-a, NVIDIA GeForce GTX 1060, 6144, 6000, [N/A], 40, [Not Supported], [N/A], 535.161.07, 6.1, [Unknown Error], [N/A]';
    expect(parseSmi(line, FULL_FIELDS)[0]).toMatchObject({
      utilisationPercent: null,
      powerWatt: null,
      powerLimitWatt: null,
      pcieGeneration: null,
      mig: null,
    });
  });

  it('reads the short list of old drivers', () => {
    const [gpu] = parseSmi('0, GPU-b, Tesla K80, 11441, 11000, 418.87\n', MINIMAL_FIELDS);
    expect(gpu).toMatchObject({ model: 'Tesla K80', vramMib: 11_441, computeCapability: null, mig: null });
  });

  it('keeps a comma in a name, and passes over lines that are no GPU', () => {
    const output =
      'Unable to determine the device handle for GPU 0000:02:00.0\n0, GPU-c, Odd, Card, 1000, 900, 1.0\n1, GPU-d, Lost, [N/A], [N/A], 1.0\n';
    expect(parseSmi(output, MINIMAL_FIELDS)).toEqual([expect.objectContaining({ model: 'Odd, Card', vramMib: 1_000 })]);
    expect(parseSmi('No devices were found\n', FULL_FIELDS)).toEqual([]);
  });
});
