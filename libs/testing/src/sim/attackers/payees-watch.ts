import { createHash } from 'node:crypto';
import type { BookCall, Claim } from '../chain/book-rules.ts';
import type { SimWorld } from '../sim-world.ts';

const LOOK_MS = 2_000;

/**
 * What everybody can do without the operator, over the chain alone: contest a posting that is below a voucher, finalise what stands,
 * declare a missed epoch, cash the vouchers of a dead book, withdraw, and take the rest of an order back.
 */
export function watchChain(world: SimWorld): void {
  const turn = (): void => {
    act(world);
    world.time.after(LOOK_MS, turn);
  };
  world.time.after(LOOK_MS, turn);
}

function act(world: SimWorld): void {
  const { state } = world.chain.head;
  for (const claim of contests(world)) attempt(world, claim.payee, { do: 'contest', claim });
  attempt(world, 'anybody', { do: 'declare-missed' });
  if (state.posting !== null) {
    const lanes = (of: readonly (readonly [number, bigint])[]) => of.map(([i, n]) => [i, String(n)] as const);
    const { debits, credits } = state.posting;
    attempt(world, 'anybody', { do: 'finalise', debits: lanes(debits), credits: lanes(credits) });
  }
  if (state.stage === 'dead') for (const { from, call } of cashings(world)) attempt(world, from, call);
  for (const [order, { payer }] of state.orders) attempt(world, payer, { do: 'refund', order });
  const owed = [...state.balances].filter(([, balance]) => balance > 0n).map(([index]) => index);
  if (owed.length > 0) attempt(world, 'anybody', { do: 'withdraw', payees: owed });
}

/** Sends what would not revert, once a look. */
function attempt(world: SimWorld, from: string, call: BookCall): void {
  if (world.chain.refusal(call, from) !== null) return;
  const what = `${world.time.nowMs} ${from} ${JSON.stringify(call)}`;
  world.chain.send({ hash: `0x${createHash('sha256').update(what).digest('hex')}`, from, nonce: null, call });
}

/** The vouchers in the nodes' own files that say more than was posted for their payee, one a payee. */
function contests(world: SimWorld): Claim[] {
  const { next } = world.chain.head.state;
  const best = new Map<string, Claim>();
  for (const claim of claims(world).filter(({ epoch }) => BigInt(epoch) === next))
    if (BigInt(claim.total) > BigInt(best.get(claim.payee)?.total ?? '0')) best.set(claim.payee, claim);
  return [...best.values()];
}

function cashings(world: SimWorld): { readonly from: string; readonly call: BookCall }[] {
  const byBook = new Map<string, Map<number, Claim>>();
  for (const claim of claims(world)) {
    const key = `${claim.payee} ${claim.epoch}`;
    const lanes = byBook.get(key) ?? new Map<number, Claim>();
    const known = lanes.get(claim.order);
    if (known === undefined || BigInt(claim.cumulative) > BigInt(known.cumulative)) lanes.set(claim.order, claim);
    byBook.set(key, lanes);
  }
  return [...byBook].map(([key, lanes]) => {
    const [from = '', epoch = '0'] = key.split(' ');
    return { from, call: { do: 'cash', epoch, claims: [...lanes.values()] } };
  });
}

function claims(world: SimWorld): Claim[] {
  return world.nodes.flatMap(({ vouchers }) => [...vouchers.values()]).filter(({ isSigned }) => isSigned);
}
