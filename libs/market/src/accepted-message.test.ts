import { expect, it } from '@jest/globals';
import { EMPTY_NODE, knownRows, rowsFor, rowsToAudit, VERIFY_LEVELS, type VerifyLevel } from '@freehold/domain';
import { CONTROL_FRAME_BYTES_MAX, type CoordinatorMessage } from '@freehold/protocol';
import { OPINIONS_MAX } from './audit-rows.ts';
import { issueVoucher, type IssueVoucherPorts } from './issue-voucher.ts';
import type { AuditFinding, DeliveredRow, LeaseView } from './ports/lease-store.ts';
import type { AcceptanceForNode, VoucherClaim } from './ports/settlement-store.ts';
import { receiptDocument } from './receipt-document.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;
const HEX_32 = `0x${'ff'.repeat(32)}`;
const ADDRESS = `0x${'ff'.repeat(20)}`;
const SIGNATURE = `0x${'ff'.repeat(65)}`;
const LONG = 'm'.repeat(256);
const RATE = 10n ** 30n;
const RATES = { inputToken: RATE, outputToken: RATE, embeddingToken: RATE, gpuMs: RATE, imageStep: RATE };
/** A batch has 50,000 rows at most. */
const ROW_FROM = 1_000_000;
const LEASE: Partial<LeaseView> = {
  ...{ task: '00000000-0000-4000-8000-000000000001', jobId: '00000000-0000-4000-8000-000000000001', epoch: 99_999 },
  ...{ nodeId: PEER, address: ADDRESS, payout: ADDRESS, model: LONG, digest: `sha256:${HEX_32}`, adapter: LONG },
  ...{ engineClass: LONG, rates: RATES, rowFrom: ROW_FROM, checkpointRoot: HEX_32, checkpointSignature: SIGNATURE },
};
const CLAIM: VoucherClaim = {
  ...{ book: ADDRESS, epoch: 2n ** 63n, payee: ADDRESS, order: 2 ** 32, orderParams: `0x${'ff'.repeat(1_024)}` },
  ...{ cumulative: 10n ** 77n, total: 10n ** 77n, receipt: HEX_32, signature: SIGNATURE },
};

/** The largest lease that a fast node gets, with as many of its rows drawn as of whoever of it is known least or most. */
function worstLease(verify: VerifyLevel): { rows: number; drawn: number } {
  const served = { name: 'm', digest: 'd', engineClass: 'c', loaded: true, rates: {}, rowsPerSecond: 1e9 };
  const rows = rowsFor({ ...EMPTY_NODE, nodeId: PEER, rowsAccepted: 1e9 }, served, 1e9, 1, verify);
  const known = Array.from({ length: 2_000 }, (_, rowsAudited) => knownRows({ rowsAccepted: 1e9, rowsAudited }));
  return { rows, drawn: Math.max(...known.map((rowsKnown) => rowsToAudit(verify, rows, { rowsKnown }))) };
}

async function messageOf(rows: number, drawn: number): Promise<CoordinatorMessage> {
  const numbers = Array.from({ length: drawn }, (_, i) => ROW_FROM + i);
  const document = receiptDocument({
    lease: LEASE as LeaseView, // all of it that a receipt says
    delivered: Array.from({ length: rows }, () => ({ succeeded: true }) as DeliveredRow),
    drawn: { height: 2n ** 63n, blockHash: HEX_32, secret: new Uint8Array(32), rows: numbers },
    countersignature: SIGNATURE,
    findings: numbers.flatMap((rowNo) =>
      Array.from({ length: OPINIONS_MAX }, (): AuditFinding => ({
        ...{ rowNo, auditor: PEER, auditorKind: 'coordinator', verdict: 'unsure', sameClass: true, score: null },
      })),
    ),
    ...{ usage: RATES, charge: 10n ** 77n, fee: 10n ** 77n },
  });
  const acceptance: AcceptanceForNode = { task: LEASE.task ?? '', nodeId: PEER, document, claim: CLAIM };
  const told: CoordinatorMessage[] = [];
  const ports = {
    settlement: { acceptance: async () => acceptance },
    link: { tell: (_node: string, message: CoordinatorMessage) => told.push(message) > 0 },
  };
  await issueVoucher(ports as unknown as IssueVoucherPorts, acceptance.task); // all that a signed acceptance needs
  const [message] = told;
  if (message === undefined) throw new Error('nothing was told');
  return message;
}

it.each(VERIFY_LEVELS)('reaches its node whatever was drawn and said of the largest lease under %s', async (verify) => {
  const { rows, drawn } = worstLease(verify);
  const message = await messageOf(rows, drawn);
  expect(Buffer.byteLength(JSON.stringify(message))).toBeLessThan(CONTROL_FRAME_BYTES_MAX);
});
