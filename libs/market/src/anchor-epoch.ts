import { rootOf } from '@freehold/domain';
import { commitLeafHash } from '@freehold/protocol';
import { fromHex } from './hex.ts';
import type { ChainSender } from './ports/chain-sender.ts';
import type { Commit, SettlementStore } from './ports/settlement-store.ts';
import type { WorkLog } from './ports/work-log.ts';
import { stepOf, type Step } from './settlement-step.ts';

/** A transaction's purpose; its `ref` is book and epoch, so that one epoch is anchored once. */
export const ANCHOR_PURPOSE = 'anchor';

export interface AnchorPorts {
  readonly settlement: SettlementStore;
  readonly sender: ChainSender;
  /** Null where the configuration names no work log. */
  readonly workLog: WorkLog | null;
}

/**
 * Dates an epoch's work on chain as soon as the epoch is over: one root over the commits of all leases that its vouchers pay.
 * From then on nobody, ourselves included, can put other rows behind a receipt. Epochs without work have nothing to date.
 */
export async function anchorEpoch(ports: AnchorPorts, book: string): Promise<Step> {
  if (ports.workLog === null) return { waits: 'no work log is configured' };
  const epoch = await ports.settlement.unanchored(book);
  if (epoch === null) return { waits: 'every epoch that is over is anchored' };
  const commits = await ports.settlement.commits(book, epoch);
  const call = ports.workLog.anchor(book, epoch, rootOfCommits(commits), commits.length);
  const sent = await ports.sender.submit({ purpose: ANCHOR_PURPOSE, ref: `${book}:${epoch}`, call });
  return stepOf(`anchor epoch ${epoch}`, sent);
}

/** RFC 6962 over the commits, in the order of their tasks. */
export function rootOfCommits(commits: readonly Commit[]): Uint8Array {
  return rootOf(commits.map(({ task, leaseEpoch, root }) => commitLeafHash(task, leaseEpoch, fromHex(root))));
}
