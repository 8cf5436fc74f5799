import { addUsage, capFor, countedAt, type Amount, type NodeNeeds, type Rates, type Usage } from '@freehold/domain';
import {
  formatMoney,
  insufficientBalance,
  invalidRequest,
  LINE_BYTES_MAX,
  parseBatchLine,
  worstUsage,
  type BatchEndpoint,
  type Catalogue,
} from '@freehold/protocol';
import { inputLines } from './input-lines.ts';
import { knownModel, postedFor, type KnownModel } from './known-models.ts';
import type { AccountStore } from './ports/account-store.ts';
import { namedModel } from './named-model.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import { fileObject } from './ports/file-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { OfferBook } from './ports/offer-book.ts';

/** So much of a file is read while its submitter waits: some thousand rows in about 50 ms. Of a longer one it is a lower bound. */
const READ_BYTES_MAX = 2 * 1_048_576;

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
      knownModel(of, ports.catalogue, offers),
    );
    wearsAdapter = named !== null && named.tuned !== null;
    return named?.model ?? null;
  });
  if (seen === null) return null;
  const { model, worst, rowsRead, rows } = seen;
  const isWhole = rows === rowsRead;
  const posted = postedFor(model, intended.region, intended.needs);
  const cap = capFor(worst, intended.maxCost, posted, model.ceiling);
  const countedRead = countedAt(worst, posted, model.ceiling);
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

interface Seen {
  readonly model: KnownModel;
  readonly worst: Usage;
  readonly rowsRead: number;
  readonly rows: number;
}

/** The worst case of the rows at the file's start; null when anything about them is not as it should be. */
export async function lookInto(
  objects: Pick<ObjectStore, 'size' | 'read'>,
  { fileId, endpoint }: Pick<Intended, 'fileId' | 'endpoint'>,
  modelNamed: (name: string) => Promise<KnownModel | null>,
): Promise<Seen | null> {
  const size = await objects.size(fileObject(fileId));
  if (size === null || size === 0) return null;
  const isWhole = size <= READ_BYTES_MAX;
  const bytes = Math.min(size, READ_BYTES_MAX);
  let name: string | null = null;
  let model: KnownModel | null = null;
  let worst: Usage = {};
  let rows = 0;
  for await (const line of inputLines(objects.read(fileObject(fileId), { from: 0, to: bytes }), LINE_BYTES_MAX)) {
    // The last line of a part is a part of a line.
    if (!isWhole && line.offset + line.length >= bytes) break;
    const row = line.text === null ? null : parseBatchLine(line.text, endpoint);
    if (row === null || !row.ok) return null;
    if (name === null) {
      name = row.value.model;
      model = await modelNamed(name);
    }
    if (model === null || row.value.model !== name || model.kind !== row.value.work.kind) return null;
    worst = addUsage(worst, worstUsage(row.value.work, model.contextTokens));
    rows += 1;
  }
  return model === null ? null : { model, worst, rowsRead: rows, rows: Math.ceil((rows * size) / bytes) };
}
