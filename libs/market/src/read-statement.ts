import { ledger, type AccountRef } from '@freehold/domain';
import { MONEY_DECIMALS, type Statement, type StatementRequest } from '@freehold/protocol';
import type { Statements } from './ports/statements.ts';

/** The page of an account's statement that was asked for, in words of the wire. The caller knows that it may be seen. */
export async function readStatement(
  statements: Statements,
  account: AccountRef,
  asked: Omit<StatementRequest, 'job' | 'format'>,
): Promise<Statement> {
  const page = await statements.read({ ...asked, account });
  return {
    object: 'statement',
    account: `${account.kind}/${account.owner}`,
    asset: ledger.MONEY,
    decimals: MONEY_DECIMALS,
    from: asked.from,
    until: asked.until,
    opening: String(page.opening),
    data: [...page.lines],
    last_id: page.lines.at(-1)?.id ?? null,
    has_more: page.hasMore,
  };
}
