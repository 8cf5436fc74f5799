/**
 * Rows of a batch are stored as they are read from its file, so many to a record: `row_block` has a CHECK of it. What ends gets a
 * record of its own (`row_end`); the view `job_row` shows both, row by row.
 */
export const ROWS_PER_BLOCK = 64;

/** Which blocks can hold the rows from `from` to before `to` (both SQL): for the index, where `job_row` is asked for a part of a job. */
export function inBlocks(from: string, to: string): string {
  return `r.block_from > ${from} - ${ROWS_PER_BLOCK} AND r.block_from < ${to}`;
}
