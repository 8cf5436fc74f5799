import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { temporaryDatabase, testPostgres, type TestPostgres } from '@freehold/wiring/embedded';
import { openDatabase } from './database.ts';
import { runDoctor } from './doctor/doctor.ts';
import { migrationFiles } from './migrations.ts';

let server: TestPostgres;
beforeAll(async () => {
  server = await testPostgres();
}, 30_000);
afterAll(() => server.stop());

const ROWS = `
  INSERT INTO org (id, name) VALUES ('org_before', 'before');
  INSERT INTO job (id, org_id, kind, state, endpoint, row_count, rows_succeeded, rows_failed, deadline)
  VALUES ('batch_before', 'org_before', 'batch', 'in_progress', '/v1/embeddings', 150, 2, 1, now() + interval '1 day');
  INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length)
  SELECT 'batch_before', n, 'row "' || n || '", {é}', n * 10000000000, n FROM generate_series(149, 0, -1) AS n;
  UPDATE job_row SET state = 'succeeded', epoch = 1, result_offset = row_no * 100, result_length = 7 WHERE row_no IN (63, 64);
  UPDATE job_row SET state = 'failed', error_code = 'broken', error_message = 'it broke' WHERE row_no = 149`;
const SHOWN = `
  SELECT row_no, custom_id, input_offset, input_length, state, task_id, epoch, result_offset, result_length, error_code, error_message
  FROM job_row ORDER BY row_no`;

it('rows of a batch that was under way stand in blocks after the upgrade, and say what they said', async () => {
  const empty = await temporaryDatabase(server.url);
  const database = await openDatabase({ url: empty.url });
  const files = migrationFiles();
  const at = files.findIndex(({ file }) => file.endsWith('-row-blocks.sql'));
  for (const { sql } of files.slice(0, at)) await database.query(sql);
  await database.query(ROWS);
  const rows = await database.query(SHOWN);
  await database.query(files[at]?.sql ?? '');
  expect(await database.query(SHOWN)).toEqual(rows);
  expect(
    await database.query('SELECT row_from, cardinality(custom_ids) AS rows FROM row_block ORDER BY row_from'),
  ).toEqual([
    { row_from: 0, rows: 64 },
    { row_from: 64, rows: 64 },
    { row_from: 128, rows: 22 },
  ]);
  expect(await database.query('SELECT row_no FROM row_end ORDER BY row_no')).toEqual(
    [63, 64, 149].map((no) => ({ row_no: no })),
  );
  await database.close();
  await empty.drop();
}, 30_000);

it('rows with gaps are refused whole, and go through once they are filled as the documentation says', async () => {
  const empty = await temporaryDatabase(server.url);
  const database = await openDatabase({ url: empty.url });
  const files = migrationFiles();
  const at = files.findIndex(({ file }) => file.endsWith('-row-blocks.sql'));
  for (const { sql } of files.slice(0, at)) await database.query(sql);
  await database.query(ROWS);
  await database.query('DELETE FROM job_row WHERE row_no IN (63, 100)');
  await expect(database.query(files[at]?.sql ?? '')).rejects.toThrow('the rows of job batch_before have gaps');
  await database.query(sqlUnder('Rows that were lost'));
  for (const { sql } of files.slice(at)) await database.query(sql);
  expect(await database.query(`SELECT row_no, custom_id FROM job_row WHERE state = 'failed' ORDER BY row_no`)).toEqual([
    { row_no: 63, custom_id: 'lost-63' },
    { row_no: 100, custom_id: 'lost-100' },
    { row_no: 149, custom_id: 'row "149", {é}' },
  ]);
  const { violations } = await runDoctor(database);
  expect(violations.filter(({ check }) => /^row-(without|counters)/.test(check))).toEqual([]);
  await database.close();
  await empty.drop();
}, 30_000);

it('a block says of each of its rows where its line lies, and its names are bounded', async () => {
  const empty = await temporaryDatabase(server.url);
  const database = await openDatabase({ url: empty.url });
  for (const { sql } of migrationFiles()) await database.query(sql);
  await database.query(`
    INSERT INTO org (id, name) VALUES ('org_narrow', 'a');
    INSERT INTO job (id, org_id, kind, state, endpoint, deadline) VALUES ('batch_narrow', 'org_narrow', 'batch', 'validating', '/v1/embeddings', now())`);
  const block = async (offsets: string, lengths: string, second = 'b'): Promise<unknown> =>
    await database.query(
      `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths) VALUES ('batch_narrow', 0, ARRAY['a', $3], $1, $2)`,
      [offsets, lengths, second],
    );
  await expect(block('{0,-1}', '{1,1}')).rejects.toThrow('row_block_input_offsets_are_some');
  await expect(block('{0,NULL}', '{1,1}')).rejects.toThrow('row_block_input_offsets_are_some');
  await expect(block('{0,1}', '{1,-1}')).rejects.toThrow('row_block_input_lengths_are_some');
  await expect(block('{0,1}', '{NULL,1}')).rejects.toThrow('row_block_input_lengths_are_some');
  await expect(block('{0,1}', '{1,1}', 'x'.repeat(1_024))).rejects.toThrow('row_block_custom_ids_are_bounded');
  await block('{0,1}', '{1,1}', 'x'.repeat(512));
  await database.close();
  await empty.drop();
}, 30_000);

/** The SQL that the documentation of upgrades gives under a heading. */
function sqlUnder(heading: string): string {
  const text = readFileSync(new URL('../../../docs/operating/upgrading.md', import.meta.url), 'utf8');
  return /```sql\n(.*?)```/s.exec(text.slice(text.indexOf(`**${heading}.**`)))?.[1] ?? '';
}
