import { addUpReceipts, checkReceipt, type GoodReceipt, type ReceiptAnchor, type ReceiptFault } from '@freehold/market';
import { formatMoney, KeptReceipt, KeptVoucher } from '@freehold/protocol';
import { createSignatureCheck, ExitClient, WrongChainError } from '@freehold/wiring/node';
import { receiptsIn, type FoundReceipt } from './receipt-files.ts';

export interface VerifyOptions {
  readonly rpc?: string;
  readonly chain?: string;
  readonly escrow?: string;
  readonly book?: string;
  readonly delegate?: string;
  readonly json: boolean;
}

/** Checks receipts as anyone can: from the file alone, and against the chain where an endpoint is given. */
export async function verifyReceipts(
  path: string,
  options: VerifyOptions,
  print: (line: string) => void,
): Promise<number> {
  const found = await receiptsIn(path);
  const anchors = new Anchors(options);
  const good: GoodReceipt[] = [];
  const faults: (ReceiptFault & { readonly where: string })[] = [];
  const places = new Map<string, string>();
  for (const { where, kept } of found) {
    const verdict = await verdictOn({ where, kept }, anchors);
    if (verdict.good) {
      good.push(verdict);
      places.set(verdict.task, where);
    } else faults.push({ ...verdict, where });
  }
  const { sums, faults: sumFaults } = addUpReceipts(good);
  faults.push(...sumFaults.map((fault) => ({ ...fault, where: places.get(fault.task) ?? path })));
  const isGood = faults.length === 0 && found.length > 0;
  if (options.json)
    print(
      JSON.stringify({
        receipts: found.length,
        good: found.length - faults.length,
        isAnchored: anchors.isAnchored,
        faults: faults.map(({ where, task, field, why }) => ({ where, task, field, why })),
        sums: sums.map(({ net, total, elsewhere, ...sum }) => ({
          ...sum,
          net: String(net),
          total: String(total),
          elsewhere: String(elsewhere),
        })),
      }),
    );
  else for (const line of lines(found.length, faults, sums, anchors)) print(line);
  return isGood ? 0 : 1;
}

async function verdictOn({ kept }: FoundReceipt, anchors: Anchors): Promise<GoodReceipt | ReceiptFault> {
  try {
    return await checkReceipt(kept, await anchors.of(kept), createSignatureCheck);
  } catch (error) {
    if (!(error instanceof WrongChainError)) throw error;
    const task = KeptReceipt.safeParse(kept).data?.receipt['task'];
    return { good: false, task: typeof task === 'string' ? task : 'unknown', field: 'coordinator', why: error.message };
  }
}

/** What receipts are held against: flags, and the chain itself where an endpoint is given; asked once per book and order. */
class Anchors {
  readonly #options: VerifyOptions;
  readonly #books = new Map<string, Promise<{ delegate: string; feeBps: number }>>();
  readonly #params = new Map<string, string>();

  constructor(options: VerifyOptions) {
    this.#options = options;
  }

  /** Whether somebody else than the file says whose signature counts. */
  get isAnchored(): boolean {
    return this.#options.rpc !== undefined || this.#options.delegate !== undefined;
  }

  async of(kept: unknown): Promise<ReceiptAnchor> {
    const { chain, escrow, book, delegate } = this.#options;
    const given: ReceiptAnchor = {
      chainId: chain === undefined ? null : Number(chain),
      escrow: escrow?.toLowerCase() ?? null,
      book: book?.toLowerCase() ?? null,
      delegate: delegate?.toLowerCase() ?? null,
      feeBps: null,
      orderParams: new Map(),
    };
    const file = KeptReceipt.safeParse(kept);
    const voucher = KeptVoucher.safeParse(file.success ? file.data.voucher : null);
    if (this.#options.rpc === undefined || !file.success || !voucher.success) return given;
    const [fileChain = '', fileEscrow = ''] = file.data.coordinator.split('/');
    if (given.chainId !== null && Number(fileChain) !== given.chainId) return given;
    const client = new ExitClient({
      rpcUrl: this.#options.rpc,
      escrow: given.escrow ?? fileEscrow,
      book: voucher.data.book,
    });
    const key = `${fileChain}/${client.escrow}/${client.book}`;
    const known = this.#books.get(key) ?? client.requireChain(Number(fileChain));
    this.#books.set(key, known);
    const onChain = await known;
    const { order } = voucher.data;
    if (!this.#params.has(`${key}/${order}`)) {
      const params = (await client.order(Number(order)))?.params ?? 'no such order';
      this.#params.set(`${key}/${order}`, params);
    }
    return {
      ...given,
      delegate: given.delegate ?? onChain.delegate,
      feeBps: onChain.feeBps,
      orderParams: new Map([[order, this.#params.get(`${key}/${order}`) ?? '']]),
    };
  }
}

function lines(
  count: number,
  faults: readonly (ReceiptFault & { readonly where: string })[],
  sums: ReturnType<typeof addUpReceipts>['sums'],
  anchors: Anchors,
): string[] {
  return [
    ...faults.map(({ where, task, field, why }) => `wrong: ${where}: task ${task}: ${field}: ${why}`),
    ...sums.map(
      ({ book, epoch, payee, receipts, net, total, elsewhere }) =>
        `book ${book}, epoch ${epoch}, payee ${payee}: ${receipts} receipts over ${formatMoney(net)}, voucher over ${formatMoney(total)}${elsewhere === 0n ? '' : ` (${formatMoney(elsewhere)} of it under receipts that are not here)`}`,
    ),
    `${count} receipts, ${faults.length} wrong${anchors.isAnchored ? '' : '; nobody but the file says whose signature counts: give --rpc or --delegate'}`,
  ];
}
