/** Traces of requests: `TIMESTAMP,ContextTokens,GeneratedTokens` (.csv) or one JSON object a line (.jsonl), each also as .gz. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const TOKENS_MAX = 10_000_000;

/**
 * @typedef {object} TraceRequest
 * @property {number} atS
 * @property {number} prompt Tokens, as `output`.
 * @property {number} output
 * @property {readonly number[] | null} blocks Names of the prompt's blocks, in order; null: the trace has none.
 */

/**
 * Requests by arrival, and the lines that are none with the reason.
 *
 * @param {string} file
 * @throws where no usable line is left.
 */
export function readRequests(file) {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  const isJson = /\.jsonl(\.gz)?$/.test(file);
  /** @type {TraceRequest[]} */
  const requests = [];
  /** @type {{ line: number; why: string }[]} */
  const refused = [];
  for (const [at, line] of text.split('\n').entries()) {
    if (line.trim() === '' || (!isJson && at === 0)) continue;
    const read = isJson ? fromJson(line) : fromCsv(line);
    if (typeof read === 'string') refused.push({ line: at + 1, why: read });
    else requests.push(read);
  }
  if (requests.length === 0)
    throw new Error(`${file}: no usable line; the first is refused: ${refused[0]?.why ?? 'it is empty'}`);
  requests.sort((a, b) => a.atS - b.atS);
  const first = requests[0].atS;
  return { requests: requests.map((one) => ({ ...one, atS: one.atS - first })), refused };
}

/** @param {string} line */
function fromCsv(line) {
  const [time, prompt, output] = line.split(',');
  const atS = Date.parse(`${time?.trim().replace(' ', 'T')}Z`) / 1_000;
  return checked({ atS, prompt: Number(prompt), output: Number(output), blocks: null });
}

/** @param {string} line */
function fromJson(line) {
  let one;
  try {
    one = JSON.parse(line);
  } catch {
    return 'expected one JSON object';
  }
  const { timestamp, input_length: prompt, output_length: output, hash_ids: blocks = null } = one ?? {};
  if (blocks !== null && !(Array.isArray(blocks) && blocks.every(Number.isInteger)))
    return 'hash_ids: expected whole numbers';
  return checked({ atS: timestamp / 1_000, prompt, output, blocks });
}

/**
 * @param {TraceRequest} one As it was read: its figures may be anything.
 * @returns {TraceRequest | string} Why it is none.
 */
function checked(one) {
  if (!Number.isFinite(one.atS)) return 'expected a time';
  for (const key of /** @type {const} */ (['prompt', 'output']))
    if (!Number.isInteger(one[key]) || one[key] < 0 || one[key] > TOKENS_MAX)
      return `${key}: expected a whole number of tokens from 0 to ${TOKENS_MAX}, got ${one[key]}`;
  return one;
}
