import { describe, expect, it } from '@jest/globals';
import { addUpReceipts, checkReceipt, toHex, type ReceiptAnchor } from '@freehold/market';
import { receiptClaim, receiptDigests, receiptHash, taskIdBytes, type KeptReceipt } from '@freehold/protocol';
import { createSignatureCheck, createSigner } from './signer.ts';

const DOMAIN = { chainId: 31_337, escrow: `0x${'e5'.repeat(20)}` };
const BOOK = `0x${'b0'.repeat(32)}`;
const delegate = createSigner(`0x${'01'.repeat(32)}`, DOMAIN);
const node = createSigner(`0x${'02'.repeat(32)}`, DOMAIN);
const ANCHOR: ReceiptAnchor = {
  chainId: DOMAIN.chainId,
  escrow: DOMAIN.escrow,
  book: BOOK,
  delegate: delegate.address,
  feeBps: 500,
  orderParams: new Map([['3', `0x${'ab'.repeat(8)}`]]),
};

/** A receipt as the coordinator makes it and its node keeps it; `claimed` is what its voucher promises in all. */
async function kept(n: number, claimed: number, by = delegate): Promise<KeptReceipt> {
  const task = `0000000${n}-0000-4000-8000-000000000000`;
  const head = { task: toHex(taskIdBytes(task)), epoch: 1n };
  const root = `0x${`0${n}`.repeat(32)}`;
  const receipt = {
    v: 1,
    task,
    epoch: 1,
    job: 'batch_1',
    node: '16Uiu2',
    address: node.address,
    payout: node.address,
    model: 'm',
    modelDigest: `sha256:${'0'.repeat(64)}`,
    engineClass: 'use-lite',
    rows: { from: 0, to: 10, succeeded: 9 },
    commitment: {
      root,
      n: 10,
      signature: await node.sign('LeaseCheckpoint', { ...head, n: 10n, root }),
      countersignature: await by.sign('CommitCountersign', { ...head, root, height: 7n }),
    },
    draw: {
      by: 'coordinator',
      height: '7',
      blockHash: `0x${'0d'.repeat(32)}`,
      secret: `0x${'05'.repeat(32)}`,
      rows: [4],
    },
    audits: [{ row: 4, auditor: 'other', kind: 'node', verdict: 'good' }],
    audited: 1,
    badShareUpperBound95: 0.95,
    usage: { embeddingToken: '1000000' },
    rates: { embeddingToken: '100' },
    charge: '100',
    fee: '5',
  };
  const claim = {
    book: BOOK,
    epoch: 2n,
    payee: node.address,
    order: 3n,
    orderParams: `0x${'ab'.repeat(8)}`,
    cumulative: BigInt(claimed),
    total: BigInt(claimed),
  };
  const digests = receiptDigests(receipt, receiptClaim(claim));
  const message = { ...claim, receipt: receiptHash(digests) };
  const voucher = {
    ...message,
    epoch: '2',
    order: 3,
    cumulative: String(claimed),
    total: String(claimed),
    signature: await by.sign('DelegateVoucher', message),
  };
  return {
    coordinator: `${DOMAIN.chainId}/${DOMAIN.escrow}/${by.address}`,
    delegate: by.address,
    receipt,
    voucher,
    digests,
  };
}

const check = (file: unknown, anchor = ANCHOR) => checkReceipt(file, anchor, createSignatureCheck);

/** Every field of a JSON value, by its path; lists are one field, as in the digests. */
function paths(value: object, prefix = ''): string[] {
  return Object.entries(value).flatMap(([name, field]: [string, unknown]) =>
    typeof field === 'object' && field !== null && !Array.isArray(field)
      ? paths(field, `${prefix}${name}.`)
      : [`${prefix}${name}`],
  );
}

/** Another value of the same shape: one digit, letter or entry is different. */
function changed(value: unknown): unknown {
  if (typeof value === 'number') return value + 1;
  if (Array.isArray(value)) return [...value, ...value];
  const text = String(value);
  const at = text.length - 3;
  return `${text.slice(0, Math.max(0, at))}${text.at(at) === '1' ? '2' : '1'}${text.slice(Math.max(0, at) + 1)}`;
}

function withChange(file: KeptReceipt, path: string): unknown {
  const copy: Record<string, unknown> = { ...structuredClone(file) };
  const names = path.split('.');
  const last = names.pop() ?? '';
  // Digests are named by paths with dots in them.
  const holder =
    names[0] === 'digests'
      ? copy['digests']
      : names.reduce((at, name) => (at as Record<string, unknown>)[name], copy as unknown);
  const key = names[0] === 'digests' ? path.slice('digests.'.length) : last;
  const target = holder as Record<string, unknown>;
  target[key] = names[0] === 'digests' ? '0'.repeat(64) : changed(target[key]);
  return copy;
}

describe('a receipt, checked by anyone', () => {
  it('holds as it was kept, against the chain and from the file alone', async () => {
    const file = await kept(1, 95);
    expect(await check(file)).toMatchObject({ good: true, net: 95n, delegate: delegate.address });
    const nobody = { chainId: null, escrow: null, book: null, delegate: null, feeBps: null, orderParams: new Map() };
    expect(await check(JSON.parse(JSON.stringify(file)), nobody)).toMatchObject({ good: true });
  });

  it('is refused when any one field is changed, and exactly that field is named', async () => {
    const file = await kept(1, 95);
    const named = [
      ...paths(file.receipt).map((path) => `receipt.${path}`),
      ...paths(file.voucher ?? {}).map((path) => `voucher.${path}`),
      'delegate',
    ];
    expect(named.length).toBeGreaterThan(35);
    for (const path of named) {
      const verdict = await check(withChange(file, path));
      expect({ path, field: verdict.good ? null : `${verdict.field}` }).toEqual({
        path,
        field: path.replace(/^receipt\./, ''),
      });
    }
  });

  it('is refused when its list of digests is changed, or a field is taken out', async () => {
    const file = await kept(1, 95);
    expect(await check(withChange(file, 'digests.commitment.root'))).toMatchObject({ good: false, field: 'digests' });
    const { model, ...rest } = file.receipt;
    expect(model).toBe('m');
    expect(await check({ ...file, receipt: rest })).toMatchObject({ good: false, field: 'model' });
    expect(await check({ ...file, voucher: null })).toMatchObject({ good: false, field: 'voucher' });
    expect(await check('nonsense')).toMatchObject({ good: false, task: 'unknown' });
  });

  it('says that a field was changed, though not which, where the digests are gone', async () => {
    const { digests, ...file } = await kept(1, 95);
    expect(digests).toBeDefined();
    expect(await check(file)).toMatchObject({ good: true });
    expect(await check({ ...file, receipt: { ...file.receipt, model: 'better' } })).toMatchObject({
      good: false,
      field: 'receipt',
    });
  });

  it('is refused from a foreign chain, escrow, book or order, with the reason', async () => {
    const file = await kept(1, 95);
    const foreign = async (anchor: Partial<ReceiptAnchor>) => await check(file, { ...ANCHOR, ...anchor });
    expect(await foreign({ chainId: 1 })).toMatchObject({
      field: 'coordinator',
      why: expect.stringMatching(/chain 31337.*chain 1/),
    });
    expect(await foreign({ escrow: `0x${'00'.repeat(20)}` })).toMatchObject({ field: 'coordinator' });
    expect(await foreign({ book: `0x${'00'.repeat(32)}` })).toMatchObject({ field: 'voucher.book' });
    expect(await foreign({ orderParams: new Map([['3', `0x${'00'.repeat(8)}`]]) })).toMatchObject({
      field: 'voucher.orderParams',
    });
    const moved = { ...file, coordinator: file.coordinator.replace('31337', '1') };
    expect(await check(moved, { ...ANCHOR, chainId: null })).toMatchObject({ good: false, field: 'coordinator' });
  });

  it('is refused under another key, also when that key signed all of it', async () => {
    const forger = createSigner(`0x${'03'.repeat(32)}`, DOMAIN);
    const verdict = await check(await kept(1, 95, forger));
    expect(verdict).toMatchObject({ field: 'voucher.signature', why: expect.stringContaining(delegate.address) });
  });

  it('holds for an audit too, which commits to nothing of its own, and names what was changed there', async () => {
    const file = await kept(1, 95);
    const receipt = {
      v: 1,
      kind: 'audit',
      task: '0000000a-0000-4000-8000-000000000000',
      epoch: 1,
      audited: { task: 't', epoch: 1 },
      node: 'n',
      payout: node.address,
      rows: 2,
      charge: '30',
      fee: '0',
    };
    const claim = {
      book: BOOK,
      epoch: 2n,
      payee: node.address,
      order: 3n,
      orderParams: `0x${'ab'.repeat(8)}`,
      cumulative: 30n,
      total: 30n,
    };
    const digests = receiptDigests(receipt, receiptClaim(claim));
    const message = { ...claim, receipt: receiptHash(digests) };
    const signature = await delegate.sign('DelegateVoucher', message);
    const audit = {
      ...file,
      receipt,
      digests,
      voucher: { ...message, epoch: '2', order: 3, cumulative: '30', total: '30', signature },
    };
    expect(await check(audit)).toMatchObject({ good: true, net: 30n });
    expect(await check(withChange(audit, 'receipt.charge'))).toMatchObject({ good: false, field: 'charge' });
    expect(await check(withChange(audit, 'voucher.signature'))).toMatchObject({
      good: false,
      field: 'voucher.signature',
    });
  });

  it('is refused when the book would not allow its fee, though it was signed', async () => {
    expect(await check(await kept(1, 95), { ...ANCHOR, feeBps: 499 })).toMatchObject({ good: false, field: 'fee' });
  });
});

describe('receipts beside each other', () => {
  async function good(n: number, claimed: number) {
    const verdict = await check(await kept(n, claimed));
    if (!verdict.good) throw new Error(verdict.why);
    return verdict;
  }

  it('add up to their vouchers; what is missing between two is said, and no fault', async () => {
    const all = [await good(2, 190), await good(1, 95)];
    expect(addUpReceipts(all)).toMatchObject({
      faults: [],
      sums: [{ receipts: 2, net: 190n, total: 190n, elsewhere: 0n }],
    });
    const gap = [await good(1, 95), await good(3, 285)];
    expect(addUpReceipts(gap)).toMatchObject({ faults: [], sums: [{ net: 190n, total: 285n, elsewhere: 95n }] });
  });

  it('are at fault when two are promised once, or one task is there twice', async () => {
    const short = addUpReceipts([await good(1, 95), await good(2, 95)]);
    expect(short.faults).toMatchObject([{ field: 'voucher.total' }]);
    // What can be cashed is what was signed, not what was earned.
    expect(short.sums).toMatchObject([{ net: 190n, total: 95n, elsewhere: 0n }]);
    expect(addUpReceipts([await good(1, 95), await good(1, 95)]).faults).toMatchObject([{ field: 'task' }]);
  });
});
