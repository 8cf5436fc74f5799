import type { VerifyLevel } from '../jobs/job-state.ts';

/** A posted offer as verification sees it. Who is paid at one address is one operator. */
export interface Stand {
  readonly payout: string;
  /** May do the work: serves the model where the job wants it. */
  readonly works: boolean;
  /** Can run committed rows of the model again. */
  readonly audits: boolean;
}

export interface Verifiability {
  readonly possible: boolean;
  /** Operators besides the one that works who must find a row good. */
  readonly auditorsNeeded: number;
  /** Operators that serve the model for this job. */
  readonly workers: number;
  /** Operators that can run its rows again. */
  readonly auditors: number;
  readonly ownEngine: boolean;
  readonly summary: string;
}

/** Opinions of others that a row needs at each level before it may be delivered. `spot` takes what there is and says so in the receipt. */
export const AUDITORS_NEEDED: Readonly<Record<VerifyLevel, number>> = { off: 0, spot: 0, strict: 1, quorum: 2 };

/**
 * Whether work of this level can be verified by who is there: for some operator that works there must be enough others (the
 * coordinator's own engine counts as one). Asked before money is held, because nothing of an unverifiable job could ever be
 * delivered.
 */
export function verifiability(
  level: VerifyLevel,
  model: string,
  stands: readonly Stand[],
  ownEngine: boolean,
): Verifiability {
  const auditorsNeeded = AUDITORS_NEEDED[level];
  const workers = new Set(stands.filter(({ works }) => works).map(({ payout }) => payout));
  const auditors = new Set(stands.filter(({ audits }) => audits).map(({ payout }) => payout));
  const own = ownEngine ? 1 : 0;
  const most = [...workers].reduce(
    (best, worker) => Math.max(best, auditors.size - (auditors.has(worker) ? 1 : 0) + own),
    workers.size === 0 ? auditors.size + own : 0,
  );
  const missing = Math.max(0, auditorsNeeded - most);
  // Somebody has to do the work, too.
  const coming = missing + (workers.size === 0 ? 1 : 0);
  const there =
    workers.size === 0
      ? 'and none is here that may do this work'
      : `of ${auditors.size} operators that can run '${model}' again ${most - own} would be left`;
  const would = `${coming} more operator${coming === 1 ? '' : 's'} offering the model${workers.size === 0 ? ' where it may run' : ''} would do`;
  const instead = `${workers.size === 0 ? '1 more with ' : ''}metadata.verify '${weaker(level, most)}'`;
  return {
    possible: missing === 0,
    auditorsNeeded,
    workers: workers.size,
    auditors: auditors.size,
    ownEngine,
    summary:
      missing === 0
        ? `verify '${level}' can be served: ${most} can check whoever works, ${auditorsNeeded} needed.`
        : `verify '${level}' needs ${auditorsNeeded} besides the operator that works: ${there}, and the coordinator's own engine ${ownEngine ? 'counts as one' : 'does not hold it'}. ${would}, or ${instead}.`,
  };
}

/** The strongest level that so many auditors can serve. */
function weaker(level: VerifyLevel, most: number): VerifyLevel {
  return level === 'quorum' && most >= AUDITORS_NEEDED.strict ? 'strict' : 'spot';
}
