/**
 * One record of RFC 4180, ended by CRLF. Text that a spreadsheet would run as a formula begins with an apostrophe, which
 * spreadsheets show as text; whole numbers stay numbers, also negative ones.
 */
export function csvRecord(fields: readonly string[]): string {
  return `${fields.map(csvField).join(',')}\r\n`;
}

function csvField(text: string): string {
  const isNumber = /^-?\d+$/.test(text);
  // What comes after blanks or control characters is run as well: some programs trim first.
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  const harmless = !isNumber && /^[\s\u0000-\u001f]*[=+\-@|%]|^[\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
