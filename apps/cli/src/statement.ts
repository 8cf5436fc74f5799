import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ledger, type AccountRef } from '@freehold/domain';
import {
  parseStatementRequest,
  Statement,
  STATEMENT_LINES_MAX,
  statementCsv,
  type StatementRequest,
} from '@freehold/protocol';
import { askMarket, reachApi, reachMarket, statementOf } from '@freehold/wiring/operator';
import { HOME } from './doctor.ts';

/** A hundred full pages: more is asked for period by period, or goes on with --after. */
const PAGES_MAX = 100;

interface Options {
  readonly data: string;
  readonly url?: string;
  readonly key?: string;
  readonly from?: string;
  readonly until?: string;
  readonly after?: string;
  readonly job?: string;
  readonly of?: string;
  readonly json: boolean;
  readonly csv: boolean;
}

type ReadPage = (after: string | null) => Promise<Statement>;

export function addStatement(program: Command): void {
  program
    .command('statement')
    .description("An account's lines and running balance, in whole units of the token's last decimal.")
    .option('--from <when>', 'first day ("2026-11-01") or moment ("2026-11-01T12:00:00Z"); else from the beginning')
    .option('--until <when>', 'the first day or moment that does not count any more; else up to now')
    .option('--job <id>', 'what is held for one job, and what it was charged, instead of the balance')
    .option('--after <id>', 'go on behind this line of an earlier statement')
    .option(
      '--of <account>',
      `the operator's: any account as KIND/OWNER (${ledger.ACCOUNT_KINDS.join(', ')}), from --data`,
    )
    .option('--json', 'one JSON document', false)
    .option('--csv', 'for a spreadsheet', false)
    .option('--data <dir>', "the market's data directory", HOME)
    .option('--url <url>', 'the API, where it is not the one of the data directory')
    .option('--key <key>', 'an API key; else FREEHOLD_API_KEY, else the one of the data directory')
    .addHelpText(
      'after',
      `
Examples:
  freehold statement
  freehold statement --from 2026-11-01 --until 2026-12-01 --csv > november.csv
  freehold statement --job batch_… --json
  freehold statement --of fees/coordinator --csv`,
    )
    .action(printStatement);
}

async function printStatement(options: Options): Promise<void> {
  const asked = parseStatementRequest({ ...periodOf(options), limit: STATEMENT_LINES_MAX });
  if (!asked.ok) throw new Error(asked.problem.message);
  if (options.json && options.csv) throw new Error('--json and --csv: one of them.');
  if (options.of === undefined) {
    const api = reachApi(resolve(options.data), options);
    await print(options, asked.value, async (after) =>
      Statement.parse(await askMarket(api, `/market/v1/account/statement?${queryOf(options, after)}`)),
    );
    return;
  }
  const account = accountFrom(options.of);
  const market = await reachMarket(resolve(options.data));
  try {
    await print(options, asked.value, (after) => statementOf(market, account, { ...asked.value, after }));
  } finally {
    await market.close();
  }
}

function periodOf({ from, until, after, job }: Options): Record<string, string> {
  const given = { from, until, after, job };
  return Object.fromEntries(Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function queryOf(options: Options, after: string | null): string {
  return new URLSearchParams({
    ...periodOf(options),
    ...(after === null ? {} : { after }),
    limit: String(STATEMENT_LINES_MAX),
  }).toString();
}

function accountFrom(text: string): AccountRef {
  const [word, ...owner] = text.split('/');
  const kind = ledger.ACCOUNT_KINDS.find((known) => known === word);
  if (kind === undefined || owner.join('/') === '')
    throw new Error(`--of ${text}: expected KIND/OWNER, where KIND is one of ${ledger.ACCOUNT_KINDS.join(', ')}.`);
  return { kind, owner: owner.join('/') };
}

/** Page by page, so that a long history needs no memory; JSON is one document and is put together first. */
async function print(options: Options, asked: StatementRequest, read: ReadPage): Promise<void> {
  const first = await read(asked.after);
  const lines = [...first.data];
  let last = first;
  const show = (page: Statement): boolean =>
    process.stdout.write(options.csv ? statementCsv(page.data, page === first) : table(page, page === first));
  if (!options.json) show(first);
  for (let pages = 1; last.has_more && pages < PAGES_MAX; pages += 1) {
    last = await read(last.last_id);
    if (options.json) lines.push(...last.data);
    else show(last);
  }
  if (options.json)
    process.stdout.write(
      `${JSON.stringify({ ...first, data: lines, last_id: last.last_id, has_more: last.has_more })}\n`,
    );
  if (last.has_more) process.stderr.write(`There is more: go on with --after ${last.last_id}\n`);
}

function table(page: Statement, isFirst: boolean): string {
  const head = `${page.account}, in 10^-${page.decimals} of the token; ${page.opening} before the first line\n`;
  const rows = page.data.map(({ at, kind, ref, amount, balance }) =>
    [at, kind.padEnd(10), amount.padStart(16), balance.padStart(16), ` ${ref}`].join(' '),
  );
  return `${isFirst ? head : ''}${rows.map((row) => `${row}\n`).join('')}`;
}
