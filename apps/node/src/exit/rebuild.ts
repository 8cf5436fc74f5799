import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkReceipt, inputLines, rebuildBatch, type KeptLease, type ReceiptAnchor } from '@freehold/market';
import {
  KeptReceipt,
  leaseKey,
  LINE_BYTES_MAX,
  parseBatchLine,
  ReceiptDocument,
  WorkOutput,
  type BatchLine,
} from '@freehold/protocol';
import { createSignatureCheck, ExitClient } from '@freehold/wiring/node';
import { z } from 'zod';
import { writeDurably } from '../durable-files.ts';
import { keptResults } from '../journal.ts';
import { OptionError } from '../options.ts';
import { jsonOf, receiptsIn } from './receipt-files.ts';
import { rpcUrlOf } from './rpc-url.ts';

/** One line of a results file: a receipt and what it was given for. */
const ResultsLine = z.object({ kept: z.unknown(), outputs: z.array(WorkOutput) });

/** What a node kept of one batch, as lines for whoever rebuilds it. */
export async function exportResults(
  data: string,
  job: string,
  file: string,
  print: (line: string) => void,
): Promise<number> {
  const lines: string[] = [];
  let rows = 0;
  for (const { where, kept } of await receiptsIn(join(data, 'receipts'))) {
    const document = KeptReceipt.safeParse(kept).data?.receipt;
    // An auditor's receipt is for looking at rows, not for rows.
    if (document?.['job'] !== job || document['kind'] === 'audit') continue;
    const receipt = ReceiptDocument.safeParse(document);
    const outputs = receipt.success ? await outputsOf(data, receipt.data) : null;
    if (outputs === null) {
      print(`left out: ${where}: its results are not here any more, or not all of them`);
      continue;
    }
    rows += outputs.length;
    lines.push(JSON.stringify({ kept, outputs }));
  }
  await writeDurably(file, lines.map((line) => `${line}\n`).join(''));
  print(`${lines.length} leases, ${rows} rows of ${job} in ${file}`);
  return 0;
}

/** What a receipt pays for: where results are kept, or where they were made when the node died before it moved them. */
async function outputsOf(data: string, receipt: ReceiptDocument): Promise<readonly WorkOutput[] | null> {
  const rows = receipt.rows.to - receipt.rows.from;
  for (const place of ['results', 'leases']) {
    const outputs = await keptResults(join(data, place, leaseKey(receipt)));
    // A lease that was cut short may have more rows than it was paid for.
    if (outputs !== null && outputs.length >= rows) return outputs.slice(0, rows);
  }
  return null;
}

export interface RebuildOptions {
  readonly rpc?: string;
  readonly chain: string;
  readonly escrow: string;
  readonly book: string;
  readonly job: string;
  readonly input: string;
  readonly results: readonly string[];
  readonly done: string;
  readonly rest: string;
}

/** Parts a batch into what was accepted before its coordinator was lost, and what is left to do. */
export async function rebuild(options: RebuildOptions, print: (line: string) => void): Promise<number> {
  const book = options.book.toLowerCase();
  const client = new ExitClient({ rpcUrl: rpcUrlOf(options), escrow: options.escrow, book });
  const { delegate, feeBps } = await client.requireChain(Number(options.chain));
  const anchor: ReceiptAnchor = {
    chainId: Number(options.chain),
    escrow: options.escrow.toLowerCase(),
    book,
    delegate,
    feeBps,
    orderParams: new Map(),
  };
  const { rows, texts } = await inputOf(options.input);
  const leases = (await Promise.all(options.results.map(leasesOf))).flat();
  const rebuilt = await rebuildBatch(
    options.job,
    rows,
    leases,
    (kept) => checkReceipt(kept, anchor, createSignatureCheck),
    Date.now(),
  );
  const done = [...rebuilt.done].sort(([a], [b]) => a - b).map(([, { line }]) => JSON.stringify(line));
  await writeDurably(options.done, done.map((line) => `${line}\n`).join(''));
  await writeDurably(options.rest, rebuilt.rest.map((rowNo) => `${texts[rowNo] ?? ''}\n`).join(''));
  for (const { task, why } of rebuilt.refused) print(`left out: task ${task}: ${why}`);
  print(`${rows.length} rows: ${done.length} done in ${options.done}, ${rebuilt.rest.length} left in ${options.rest}`);
  return 0;
}

/** Puts the parts of a batch together in the order of its input; refuses when a row is missing or there twice. */
export async function merge(
  options: { readonly input: string; readonly part: readonly string[]; readonly out: string },
  print: (line: string) => void,
): Promise<number> {
  const { rows } = await inputOf(options.input);
  const lines = new Map<string, string>();
  for (const part of options.part)
    for (const line of (await readFile(part, 'utf8')).split('\n').filter((text) => text !== '')) {
      const id = customIdOf(line);
      if (id === null) throw new OptionError(`${part}: a line is no record of a batch: ${line.slice(0, 80)}`);
      if (lines.has(id)) throw new OptionError(`${part}: ${id} is there twice: it would have been paid for twice.`);
      lines.set(id, line);
    }
  const missing = rows.filter(({ customId }) => !lines.has(customId));
  if (missing.length > 0)
    throw new OptionError(`${missing.length} rows are missing, the first is ${missing[0]?.customId ?? ''}.`);
  if (lines.size > rows.length)
    throw new OptionError(`${lines.size - rows.length} lines are of no row of ${options.input}.`);
  await writeDurably(options.out, rows.map(({ customId }) => `${lines.get(customId) ?? ''}\n`).join(''));
  print(`${rows.length} rows in ${options.out}`);
  return 0;
}

function customIdOf(line: string): string | null {
  return z.looseObject({ custom_id: z.string() }).safeParse(jsonOf(line)).data?.custom_id ?? null;
}

/** Rows are numbered as the coordinator numbers them: lines that are not blank, from 0. */
async function inputOf(
  path: string,
): Promise<{ readonly rows: readonly BatchLine[]; readonly texts: readonly string[] }> {
  const rows: BatchLine[] = [];
  const texts: string[] = [];
  for await (const { line, text } of inputLines(createReadStream(path), LINE_BYTES_MAX)) {
    const parsed = parseBatchLine(text ?? '', null);
    if (text === null || !parsed.ok) throw new OptionError(`${path}:${line}: no request of a batch.`);
    rows.push(parsed.value);
    texts.push(text);
  }
  return { rows, texts };
}

async function leasesOf(path: string): Promise<readonly KeptLease[]> {
  const lines = (await readFile(path, 'utf8')).split('\n').filter((text) => text !== '');
  return lines.map((line, i) => {
    const parsed = ResultsLine.safeParse(jsonOf(line));
    if (!parsed.success) throw new OptionError(`${path}:${i + 1}: no results of a lease.`);
    return { kept: parsed.data.kept, outputs: parsed.data.outputs };
  });
}
