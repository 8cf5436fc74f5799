import { z } from 'zod';
import { csvRecord } from './csv.ts';
import { MONEY_DECIMALS } from './money.ts';
import { problemOf, refused, type Parsed } from './problem.ts';

/** Lines of a statement in one answer: a page, not a life. */
export const STATEMENT_LINES_MAX = 1_000;

const Amount = z.string().regex(/^-?\d{1,79}$/);

/** One line: amounts are whole numbers of the asset's smallest unit, as strings, because JSON numbers are too small for money. */
export const StatementLine = z.object({
  id: z.string(),
  at: z.string(),
  kind: z.string(),
  ref: z.string(),
  asset: z.string(),
  amount: Amount,
  /** The account's balance after this line. */
  balance: Amount,
});
export type StatementLine = z.infer<typeof StatementLine>;

/** A page of a statement. `opening` is the balance before its first line, so that opening + Σ amounts = the last balance. */
export const Statement = z.object({
  object: z.literal('statement'),
  account: z.string(),
  asset: z.string(),
  decimals: z.literal(MONEY_DECIMALS),
  from: z.string().nullable(),
  until: z.string().nullable(),
  opening: Amount,
  data: z.array(StatementLine),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});
export type Statement = z.infer<typeof Statement>;

export interface StatementRequest {
  /** [from, until), as moments of UTC (RFC 3339); null: no bound. */
  readonly from: string | null;
  readonly until: string | null;
  /** The id of the last line of the page before. */
  readonly after: string | null;
  readonly limit: number;
  /** Of what is held for this job, instead of the balance. */
  readonly job: string | null;
  readonly format: 'json' | 'csv' | null;
}

const Query = z.strictObject({
  from: z.string().max(40).optional(),
  until: z.string().max(40).optional(),
  after: z
    .string()
    .regex(/^\d{1,18}$/, 'expected the id of the last line of the page before')
    .optional(),
  limit: z.coerce.number().int().min(1).max(STATEMENT_LINES_MAX).default(STATEMENT_LINES_MAX),
  job: z.string().min(1).max(64).optional(),
  format: z.enum(['json', 'csv']).optional(),
});

/** Parses the query of GET /market/v1/account/statement. */
export function parseStatementRequest(query: unknown): Parsed<StatementRequest> {
  const parsed = Query.safeParse(query);
  if (!parsed.success) return { ok: false, problem: problemOf(parsed.error) };
  const { from, until, after, limit, job, format } = parsed.data;
  const [fromMs, untilMs] = [momentMs(from), momentMs(until)];
  for (const [name, text, ms] of [
    ['from', from, fromMs],
    ['until', until, untilMs],
  ] as const)
    if (Number.isNaN(ms))
      return refused(
        'invalid_value',
        `${name} '${text}': expected a day ("2026-11-01") or a moment with its zone ("2026-11-01T12:00:00Z").`,
        name,
      );
  if (fromMs !== null && untilMs !== null && fromMs >= untilMs)
    return refused(
      'invalid_value',
      `until '${until}' is not after from '${from}': a period needs both in order.`,
      'until',
    );
  return {
    ok: true,
    value: {
      from: iso(fromMs),
      until: iso(untilMs),
      after: after ?? null,
      limit,
      job: job ?? null,
      format: format ?? null,
    },
  };
}

const DAY = /^[2-9]\d{3}-\d\d-\d\d$/;
const MOMENT = /^[2-9]\d{3}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$/;

/** NaN for what is no date, also one that the calendar does not have. A day begins at midnight UTC. */
function momentMs(text: string | undefined): number | null {
  if (text === undefined) return null;
  if (!DAY.test(text) && !MOMENT.test(text)) return Number.NaN;
  const day = text.slice(0, 10);
  const hasDay = z.iso.date().safeParse(day).success;
  return hasDay ? Date.parse(text) : Number.NaN;
}

function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

const COLUMNS = ['at', 'kind', 'ref', 'asset', 'amount', 'balance'] as const;

/** The lines as CSV for a spreadsheet, under a header where asked for. */
export function statementCsv(lines: readonly StatementLine[], hasHeader = true): string {
  const rows = lines.map((line) => csvRecord(COLUMNS.map((column) => line[column])));
  return [...(hasHeader ? [csvRecord(COLUMNS)] : []), ...rows].join('');
}
