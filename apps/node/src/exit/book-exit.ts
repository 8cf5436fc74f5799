import { delegateVoucherMessage, ExitDoor, planCashout, type ExitPlan, type ExitStep } from '@freehold/market';
import { KeptReceipt, KeptVoucher } from '@freehold/protocol';
import { createSignatureCheck, type ExitClient, type ExitWallet } from '@freehold/wiring/node';
import type { FoundReceipt } from './receipt-files.ts';

/** The vouchers of one payee in one book: what one exit is about. */
export interface Claimant {
  readonly chainId: number;
  readonly escrow: string;
  readonly book: string;
  readonly payee: string;
  readonly vouchers: readonly KeptVoucher[];
}

/** Sorts what a node has kept by chain, book and payee. What is no voucher at all is told, and left to `receipts verify`. */
export function claimantsOf(
  receipts: readonly FoundReceipt[],
  told: (where: string, why: string) => void,
): readonly Claimant[] {
  const groups = new Map<string, { claimant: Omit<Claimant, 'vouchers'>; vouchers: KeptVoucher[] }>();
  for (const { where, kept } of receipts) {
    const file = KeptReceipt.safeParse(kept);
    const voucher = KeptVoucher.safeParse(file.success ? file.data.voucher : null);
    if (!file.success || !voucher.success) {
      told(where, file.success && file.data.voucher === null ? 'a receipt without a voucher' : 'no readable voucher');
      continue;
    }
    const [chain = '', escrow = ''] = file.data.coordinator.split('/');
    const { book, payee } = voucher.data;
    const key = `${chain}/${escrow}/${book}/${payee}`;
    const group = groups.get(key) ?? { claimant: { chainId: Number(chain), escrow, book, payee }, vouchers: [] };
    group.vouchers.push(voucher.data);
    groups.set(key, group);
  }
  return [...groups.values()].map(({ claimant, vouchers }) => ({ ...claimant, vouchers }));
}

/** Only what the book's delegate signed, for the order that the chain knows: a voucher of another key would revert the rest. */
export async function vouchersThatCount(
  claimant: Claimant,
  client: ExitClient,
  delegate: string,
  told: (voucher: KeptVoucher, why: string) => void,
): Promise<readonly KeptVoucher[]> {
  const signatures = createSignatureCheck({ chainId: claimant.chainId, escrow: claimant.escrow });
  const params = new Map<string, string | null>();
  const good: KeptVoucher[] = [];
  for (const voucher of claimant.vouchers) {
    if (!params.has(voucher.order))
      params.set(voucher.order, (await client.order(Number(voucher.order)))?.params ?? null);
    const signer = await signatures.recover('DelegateVoucher', delegateVoucherMessage(voucher), voucher.signature);
    if (signer !== delegate) told(voucher, `signed by ${signer ?? 'nobody'}; the book's delegate is ${delegate}`);
    else if (params.get(voucher.order) !== voucher.orderParams)
      told(voucher, `order ${voucher.order} of the book is another one (the chain took its opening back)`);
    else good.push(voucher);
  }
  return good;
}

/** What of the plan could be sent by this wallet, asked and done against the chain. */
export class BookExit extends ExitDoor {
  readonly #client: ExitClient;
  readonly #wallet: ExitWallet;
  readonly #payee: string;
  readonly #vouchers: readonly KeptVoucher[];
  /** The chain's clock at the last look. */
  now = 0n;
  /** First epoch that was not final at the last look. */
  next = 0n;
  /** Epochs of which everything is on the chain, by what was signed for them. */
  settled: ReadonlyMap<string, string> = new Map();

  constructor(parts: { client: ExitClient; wallet: ExitWallet; payee: string; vouchers: readonly KeptVoucher[] }) {
    super();
    this.#client = parts.client;
    this.#wallet = parts.wallet;
    this.#payee = parts.payee;
    this.#vouchers = parts.vouchers;
  }

  override async plan(): Promise<ExitPlan> {
    const book = await this.#client.bookFacts();
    const payee = await this.#client.payeeFacts(book, this.#payee, this.#vouchers);
    this.now = book.now;
    this.next = book.next;
    this.settled = settledOf(this.#vouchers, book.next, payee.cashed);
    return planCashout(book, payee, this.#vouchers);
  }

  override async refusal(step: ExitStep): Promise<string | null> {
    await this.#wallet.settleEarlier();
    return await this.#wallet.refusal(await this.#client.callOf(step, this.#payee));
  }

  override async perform(step: ExitStep): Promise<{ readonly hash: string }> {
    return await this.#wallet.send(await this.#client.callOf(step, this.#payee));
  }
}

/** `<epoch>` → total, for epochs that are final, or of which every order's last voucher was cashed. */
function settledOf(
  vouchers: readonly KeptVoucher[],
  next: bigint,
  cashed: ReadonlySet<string>,
): ReadonlyMap<string, string> {
  const totals = new Map<string, bigint>();
  const open = new Set<string>();
  for (const { epoch, order, total } of vouchers) {
    if (BigInt(total) > (totals.get(epoch) ?? 0n)) totals.set(epoch, BigInt(total));
    if (BigInt(epoch) >= next && !cashed.has(`${epoch}/${order}`)) open.add(epoch);
  }
  return new Map([...totals].filter(([epoch]) => !open.has(epoch)).map(([epoch, total]) => [epoch, String(total)]));
}
