import type { Sql } from '@freehold/persistence';

/** Tables in whose rows a text stands, in any column: as text, inside JSON, or as bytes. */
export async function tablesWith(database: Sql, text: string): Promise<string[]> {
  const tables = await database.query<{ name: string }>(
    `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
     WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
  );
  const hex = Buffer.from(text).toString('hex');
  const found: string[] = [];
  for (const { name } of tables) {
    // A row as text shows every column; bytes show as hexadecimal digits.
    const rows = await database.query(
      `SELECT 1 FROM ${name} AS r WHERE strpos(lower(r::text), lower($1)) > 0 OR strpos(r::text, $2) > 0 LIMIT 1`,
      [text, hex],
    );
    if (rows.length > 0) found.push(name);
  }
  return found;
}
