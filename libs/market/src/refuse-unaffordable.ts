import type { Amount, NodeNeeds, Rates } from '@freehold/domain';
import {
  formatMoney,
  insufficientBalance,
  invalidRequest,
  type BatchEndpoint,
  type Catalogue,
} from '@freehold/protocol';
import { kindServing } from './ask-of.ts';
import { inSteps } from './in-slices.ts';
import { knowingModel } from './known-models.ts';
import { lookInto } from './look-into.ts';
import { pricedAs, pricesFor } from './max-cost.ts';
import type { AccountStore } from './ports/account-store.ts';
import { namedModel } from './named-model.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook } from './ports/offer-book.ts';

export interface RefuseUnaffordablePorts {
  readonly accounts: AccountStore;
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
  readonly fineTunes: Pick<FineTuneStore, 'model'>;
}

export interface Intended {
  readonly orgId: string;
  readonly fileId: string;
  readonly endpoint: BatchEndpoint;
  readonly maxCost: Amount | null;
  readonly region: string | null;
  readonly needs: NodeNeeds;
  /** How long it may take. */
  readonly windowMs: number;
}

/** What is known of a batch while its submitter waits. */
export interface IntendedWork {
  /** What nodes serve. */
  readonly model: string;
  /** Counted; of a long file, by its beginning. */
  readonly rows: number;
  /** Whether all of it was read. */
  readonly isWhole: boolean;
  /** The most that they can count as, see {@link countedAt}; of a long file, by its beginning. */
  readonly counted: Amount | null;
  /** The highest rates that it will admit; null where nobody posts any. */
  readonly rateCaps: Rates | null;
  readonly wearsAdapter: boolean;
}

/**
 * Refuses a batch at once that cannot be paid for, with the price that would do, instead of minutes later in its record.
 * Says nothing about files with faults: their lines are validation's to name. What is taken here is looked at again there.
 *
 * @returns what it found, null where that is validation's to say.
 * @throws {ApiError} 400 when `max_cost` does not cover the worst case, 402 when the balance does not cover the hold.
 */
export async function refuseUnaffordable(
  ports: RefuseUnaffordablePorts,
  intended: Intended,
): Promise<IntendedWork | null> {
  const [offers, { balance }] = await Promise.all([
    ports.offers.offers(),
    // Asked for before it is known whether it matters: it does for nearly every batch, and its submitter waits.
    ports.accounts.balance(intended.orgId),
  ]);
  let wearsAdapter = false;
  const seen = await lookInto(ports.objects, intended, async (name) => {
    const named = await namedModel(ports.fineTunes, intended.orgId, name, (of) =>
      inSteps(knowingModel(of, ports.catalogue, offers, kindServing(intended.endpoint))),
    );
    wearsAdapter = named !== null && named.tuned !== null;
    return named?.model ?? null;
  });
  if (seen === null) return null;
  const { model, worst, rowsRead, rows } = seen;
  const isWhole = rows === rowsRead;
  const priced = pricedAs(model, worst, intended.maxCost, intended.windowMs);
  const prices = await inSteps(pricesFor(priced, intended.region, intended.needs));
  const cap = prices.cap(intended.maxCost);
  const countedRead = prices.counted;
  const counted = countedRead === null ? null : (countedRead * BigInt(rows)) / BigInt(rowsRead);
  const work = { model: model.name, rows, isWhole, counted, wearsAdapter };
  if (!cap.ok && cap.why === 'no-price') return { ...work, rateCaps: null };
  const would = isWhole ? 'would do' : 'for its first rows alone would do';
  if (!cap.ok)
    throw invalidRequest(
      'cap_too_low',
      `metadata.max_cost ${formatMoney(intended.maxCost ?? 0n)} does not cover the worst case of this batch: ${formatMoney(cap.needed)} ${would}. Raise it, lower max_tokens, or send fewer rows.`,
      'metadata.max_cost',
    );
  if (cap.cap > balance) throw insufficientBalance(cap.cap, balance, formatMoney);
  return { ...work, rateCaps: cap.rateCaps };
}
