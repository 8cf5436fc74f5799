import { receiptClaim, receiptDigests, receiptHash, type CoordinatorMessage } from '@freehold/protocol';
import { delegateVoucherMessage } from './delegate-voucher.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import type { AcceptanceForNode, SettlementStore, VoucherClaim } from './ports/settlement-store.ts';
import type { Signer } from './ports/signer.ts';

export interface IssueVoucherPorts {
  readonly settlement: SettlementStore;
  readonly signer: Signer;
  readonly link: ProviderLink;
}

export type Issued =
  { readonly issued: true; readonly told: boolean } | { readonly issued: false; readonly why: 'no-receipt' };

/**
 * Tells a node that its lease is accepted, in one message that is also the delegate voucher: what it can prove is what it can
 * cash. The signature is saved before it leaves, and a second run sends the saved one: no two vouchers for one acceptance.
 */
export async function issueVoucher(ports: IssueVoucherPorts, task: string): Promise<Issued> {
  const acceptance = await ports.settlement.acceptance(task);
  if (acceptance === null) return { issued: false, why: 'no-receipt' };
  const claim = acceptance.claim === null ? null : await signed(ports, acceptance, acceptance.claim);
  return { issued: true, told: ports.link.tell(acceptance.nodeId, acceptedMessage({ ...acceptance, claim })) };
}

async function signed(
  ports: IssueVoucherPorts,
  acceptance: AcceptanceForNode,
  claim: VoucherClaim,
): Promise<VoucherClaim> {
  if (claim.signature !== null) return claim;
  const receipt = receiptHash(receiptDigests(acceptance.document, receiptClaim({ ...claim })));
  const signature = await ports.signer.sign('DelegateVoucher', delegateVoucherMessage({ ...claim, receipt }));
  return { ...claim, ...(await ports.settlement.saveSignature(acceptance.task, receipt, signature)) };
}

/** Not larger than a control frame: `accepted-message.test.ts`. */
export function acceptedMessage({ document, claim }: AcceptanceForNode): CoordinatorMessage {
  const voucher =
    claim === null
      ? null
      : {
          book: claim.book,
          epoch: String(claim.epoch),
          payee: claim.payee,
          order: claim.order,
          orderParams: claim.orderParams,
          cumulative: String(claim.cumulative),
          total: String(claim.total),
          receipt: claim.receipt,
          signature: claim.signature,
        };
  return { type: 'accepted', receipt: { ...document }, voucher };
}
