/**
 * A list of texts, numbers, booleans and nulls as Postgres reads an array, written at once. The driver escapes value by value,
 * which for a thousand rows of ten columns costs more than their INSERT. Anything else (bytes, dates, bigints) is left to it.
 */
export function arrayLiteral(values: readonly unknown[]): string | readonly unknown[] {
  if (!values.every(isPlain)) return values;
  const json = JSON.stringify(values);
  // JSON's quotes are the array's quotes too; its escapes are not.
  return json.includes('\\') ? `{${values.map(escaped).join()}}` : `{${json.slice(1, -1)}}`;
}

type Plain = string | number | boolean | null;

function isPlain(value: unknown): value is Plain {
  if (typeof value === 'number') return Number.isFinite(value);
  return typeof value === 'string' || typeof value === 'boolean' || value === null;
}

function escaped(value: Plain): string {
  return typeof value === 'string' ? `"${value.replaceAll(/["\\]/g, '\\$&')}"` : String(value);
}
