const STAGES = ['none', 'waiting', 'posted', 'struck', 'amended', 'dead'] as const;

export type BookStage = Exclude<(typeof STAGES)[number], 'none'>;

/** The stage of a book by the contract's number. @throws when that is no stage of a book that exists. */
export function bookStage(number: number, escrow: string, book: string): BookStage {
  const stage = STAGES[number];
  if (stage === undefined || stage === 'none')
    throw new Error(
      `Escrow ${escrow} answers stage ${number} for book ${book}: expected 1 to 5. Is this the escrow we know?`,
    );
  return stage;
}
