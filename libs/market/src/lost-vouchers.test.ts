import { expect, it } from '@jest/globals';
import { LostVouchers, TOTALS_FRESH_MS } from './lost-vouchers.ts';

it('goes by what a node said a short time ago, as long as it is here', async () => {
  const sent: string[] = [];
  let nowMs = 0;
  const vouchers = new LostVouchers({
    clock: { nowMs: () => nowMs },
    report: (what) => sent.push(what),
    resendVouchers: async (nodeId, totals) => void sent.push(`${nodeId}: ${totals?.[0]?.total ?? 'nothing said'}`),
  });
  for (const nodeId of ['here', 'left', 'slow']) vouchers.heard(nodeId, [{ bookEpoch: '1', total: '5' }]);
  vouchers.gone('left');
  nowMs = TOTALS_FRESH_MS - 1;
  await vouchers.sendAll(['here', 'left']);
  nowMs = TOTALS_FRESH_MS;
  await vouchers.sendAll(['slow']);
  expect(sent).toEqual(['here: 5', 'left: nothing said', 'slow: nothing said']);
});
