import { expect, it } from '@jest/globals';
import { SpeedMeter } from './speed-meter.ts';

it('measures rows inside a lease and knows nothing before the second batch', () => {
  const meter = new SpeedMeter();
  const lease = meter.lease('node', 'model');
  lease(1, 0);
  expect(meter.rowsPerSecond('node', 'model')).toBeUndefined();
  lease(1, 100);
  expect(meter.rowsPerSecond('node', 'model')).toBeCloseTo(10);
  expect(meter.rowsPerSecond('node', 'other')).toBeUndefined();
});

it('does not take the pause between two leases for slowness', () => {
  const meter = new SpeedMeter();
  for (let start = 0; start < 50_000; start += 5_000) {
    const lease = meter.lease('node', 'model');
    for (let row = 0; row < 4; row += 1) lease(1, start + row * 50);
  }
  expect(meter.rowsPerSecond('node', 'model')).toBeCloseTo(20);
});

it('follows a node that becomes slower', () => {
  const meter = new SpeedMeter();
  const lease = meter.lease('node', 'model');
  for (let row = 0; row < 5; row += 1) lease(1, row * 50);
  for (let row = 1; row <= 20; row += 1) lease(1, 200 + row * 500);
  expect(meter.rowsPerSecond('node', 'model')).toBeLessThan(2.5);
});
