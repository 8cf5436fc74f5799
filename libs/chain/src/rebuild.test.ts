import { GrowingTree } from '@freehold/domain';
import { checkReceipt, rebuildBatch, toHex, type KeptLease } from '@freehold/market';
import {
  parseBatchLine,
  receiptClaim,
  receiptDigests,
  receiptHash,
  rowLeafHash,
  taskIdBytes,
  type BatchLine,
  type WorkOutput,
} from '@freehold/protocol';
import { expect, it } from '@jest/globals';
import { createSignatureCheck, createSigner } from './signer.ts';

const DOMAIN = { chainId: 31_337, escrow: `0x${'e5'.repeat(20)}` };
const BOOK = `0x${'b0'.repeat(32)}`;
const delegate = createSigner(`0x${'01'.repeat(32)}`, DOMAIN);
const node = createSigner(`0x${'02'.repeat(32)}`, DOMAIN);
const ANCHOR = {
  ...DOMAIN,
  book: BOOK,
  delegate: delegate.address,
  feeBps: 500,
  orderParams: new Map<string, string>(),
};
const check = (kept: unknown) => checkReceipt(kept, ANCHOR, createSignatureCheck);

const INPUT: readonly BatchLine[] = Array.from({ length: 10 }, (_, i) => {
  const body = { model: 'm', messages: [{ role: 'user', content: `question ${i}` }], max_tokens: 8 };
  const line = { custom_id: `row-${i}`, method: 'POST', url: '/v1/chat/completions', body };
  const parsed = parseBatchLine(JSON.stringify(line), '/v1/chat/completions');
  if (!parsed.ok) throw new Error(parsed.problem.message);
  return parsed.value;
});
const answer = (rowNo: number): WorkOutput =>
  rowNo === 4
    ? { kind: 'failed', code: 'too_long', message: 'no' }
    : { kind: 'chat', tokens: [rowNo, 7], text: `answer ${rowNo}`, finish: 'stop', unitsIn: 5, unitsOut: 2 };

/** Rows [from, to) as a node keeps them after acceptance. */
async function lease(
  n: number,
  from: number,
  to: number,
  options: { by?: typeof delegate; job?: string } = {},
): Promise<KeptLease> {
  const by = options.by ?? delegate;
  const task = `0000000${n}-0000-4000-8000-000000000000`;
  const outputs = INPUT.slice(from, to).map((_, i) => answer(from + i));
  const tree = new GrowingTree();
  for (const [i, output] of outputs.entries())
    tree.addHash(rowLeafHash(task, from + i, INPUT[from + i]?.work as BatchLine['work'], output));
  const root = toHex(tree.root());
  const head = { task: toHex(taskIdBytes(task)), epoch: 1n };
  const receipt = {
    v: 1,
    task,
    epoch: 1,
    job: options.job ?? 'batch_1',
    address: node.address,
    payout: node.address,
    modelDigest: `sha256:${'0'.repeat(64)}`,
    engineClass: 'e',
    rows: { from, to, succeeded: to - from },
    commitment: {
      root,
      n: to - from,
      signature: await node.sign('LeaseCheckpoint', { ...head, n: BigInt(to - from), root }),
      countersignature: await by.sign('CommitCountersign', { ...head, root, height: 7n }),
    },
    draw: { height: '7' },
    usage: { outputToken: '1000000' },
    rates: { outputToken: '100' },
    charge: '100',
    fee: '5',
  };
  const claim = {
    book: BOOK,
    epoch: 2n,
    payee: node.address,
    order: 3n,
    orderParams: `0x${'ab'.repeat(8)}`,
    cumulative: 95n,
    total: 95n,
  };
  const digests = receiptDigests(receipt, receiptClaim(claim));
  const message = { ...claim, receipt: receiptHash(digests) };
  const signature = await by.sign('DelegateVoucher', message);
  const voucher = { ...message, epoch: '2', order: '3', cumulative: '95', total: '95', signature };
  const coordinator = `${DOMAIN.chainId}/${DOMAIN.escrow}/${by.address}`;
  return { kept: { coordinator, delegate: by.address, receipt, voucher, digests }, outputs };
}

it('takes rows as done that accepted receipts commit to, and leaves the rest as new work: none lost, none twice', async () => {
  const rebuilt = await rebuildBatch('batch_1', INPUT, [await lease(1, 0, 3), await lease(2, 4, 6)], check, 1_000);
  expect([...rebuilt.done.keys()]).toEqual([0, 1, 2, 4, 5]);
  expect(rebuilt.rest).toEqual([3, 6, 7, 8, 9]);
  expect(rebuilt.refused).toEqual([]);
  expect(rebuilt.done.get(1)?.line).toMatchObject({
    custom_id: 'row-1',
    response: { status_code: 200, body: { choices: [{ message: { content: 'answer 1' } }] } },
  });
  expect(rebuilt.done.get(4)).toMatchObject({ succeeded: false, line: { response: { status_code: 400 } } });
});

it('leaves out with the reason what is not proved: another result, another input, another key, a row twice, a result missing', async () => {
  const [honest, again] = [await lease(1, 0, 3), await lease(2, 2, 5)];
  const refusedOf = async (...leases: KeptLease[]) =>
    (await rebuildBatch('batch_1', INPUT, leases, check, 1_000)).refused;
  const forged = { ...honest, outputs: [answer(0), answer(9), answer(2)] };
  expect(await refusedOf(forged)).toMatchObject([
    { why: expect.stringContaining('not those that the receipt commits to') },
  ]);
  expect(await refusedOf({ ...honest, outputs: honest.outputs.slice(1) })).toMatchObject([
    { why: '2 of its 3 results are here' },
  ]);
  expect(await refusedOf(honest, again)).toMatchObject([
    { why: expect.stringMatching(/row 2 is accepted under task 00000001/) },
  ]);
  expect(await refusedOf(await lease(1, 0, 3, { by: node }))).toMatchObject([
    { why: expect.stringContaining('delegate') },
  ]);
  const swapped = [...INPUT.slice(1), INPUT[0] as BatchLine];
  const elsewhere = await rebuildBatch('batch_1', swapped, [honest], check, 1_000);
  expect(elsewhere).toMatchObject({ refused: [{ task: expect.anything() }], rest: expect.arrayContaining([0, 1, 2]) });
  const ofAnother = await rebuildBatch('batch_1', INPUT, [await lease(1, 0, 3, { job: 'batch_2' })], check, 1_000);
  expect(ofAnother).toMatchObject({ refused: [], rest: expect.arrayContaining([0, 1, 2]) });
});
