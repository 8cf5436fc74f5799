import { isAbsolute, resolve } from 'node:path';
import { ISOLATIONS, UNIT_KINDS, type Isolation, type Rates, type UnitKind } from '@freehold/domain';
import { MODES, type Mode } from './modes.ts';

/** What `node up` was asked for, checked. */
export interface NodeOptions {
  readonly coordinators: readonly string[];
  readonly dataDir: string;
  /** `llama-cpp`, `use-lite`, or the URL of an OpenAI-compatible server. */
  readonly engines: readonly string[];
  readonly model: string | null;
  readonly rates: Rates;
  readonly payout: string | null;
  readonly region: string;
  /** Null: what the machine shows. */
  readonly isolation: Isolation | null;
  /** Null: what each engine can take. */
  readonly slots: number | null;
  readonly chatSharePercent: number;
  readonly exposureMax: bigint;
  readonly unsignedMax: bigint;
  /** Null: RPC_URL, if that is set. */
  readonly rpc: string | null;
  readonly noticeS: number;
  readonly mode: Mode;
  /** What the slow mode sleeps before each row. */
  readonly slowMs: number;
  readonly json: boolean;
}

/** As commander hands them over. */
export interface RawOptions {
  readonly coordinator: readonly string[];
  readonly data: string;
  readonly engine: readonly string[];
  readonly model?: string;
  readonly rate: readonly string[];
  readonly payout?: string;
  readonly region: string;
  readonly isolation?: string;
  readonly slots?: string;
  readonly chatShare: string;
  readonly exposureMax: string;
  readonly unsignedMax: string;
  readonly rpc?: string;
  readonly notice: string;
  readonly mode: string;
  readonly slowMs: string;
  readonly json?: boolean;
}

/** Smallest token units per million units: a tenth of a token per million tokens, with a token of six decimals. */
export const DEFAULT_RATES: Rates = {
  inputToken: 50_000n,
  outputToken: 100_000n,
  embeddingToken: 20_000n,
  trainingToken: 200_000n,
};
/** A thousand tokens of six decimals. */
export const DEFAULT_EXPOSURE_MAX = 1_000_000_000n;
/**
 * Ten tokens of six decimals: a hundred million output tokens at {@link DEFAULT_RATES}. Verdicts take minutes at most, in which the
 * fastest machine delivers a tenth of that.
 */
export const DEFAULT_UNSIGNED_MAX = 10_000_000n;

/** Something in the command line is not what it should be; the text says what to write instead. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

export function nodeOptions(raw: RawOptions): NodeOptions {
  if (raw.coordinator.length === 0)
    throw new OptionError(
      'No coordinator: give one or more --coordinator /ip4/…/tcp/…/p2p/<peer id>, as the coordinator prints them.',
    );
  if (raw.engine.length === 0)
    throw new OptionError('No engine: give one or more --engine llama-cpp | use-lite | trainer | http://host:port.');
  for (const engine of raw.engine) checkEngine(engine);
  for (const address of raw.coordinator)
    checkedText(
      '--coordinator',
      address,
      /^\/.+\/p2p\/[^/]+/,
      '/ip4/…/tcp/…/p2p/<peer id>, as the coordinator prints it',
    );
  return {
    coordinators: raw.coordinator,
    dataDir: isAbsolute(raw.data) ? raw.data : resolve(raw.data),
    engines: raw.engine,
    model: raw.model ?? null,
    rates: ratesFrom(raw.rate),
    payout: raw.payout === undefined ? null : addressFrom(raw.payout),
    region: checkedText('--region', raw.region, /^[\w.-]{1,32}$/, 'up to 32 letters, digits, dots and dashes'),
    isolation: raw.isolation === undefined ? null : isolationFrom(raw.isolation),
    slots: raw.slots === undefined ? null : wholeNumber('--slots', raw.slots, 1, 1_024),
    chatSharePercent: wholeNumber('--chat-share', raw.chatShare, 0, 100),
    exposureMax: amountFrom('--exposure-max', raw.exposureMax),
    unsignedMax: amountFrom('--unsigned-max', raw.unsignedMax),
    rpc: raw.rpc === undefined ? null : urlFrom('--rpc', raw.rpc),
    noticeS: wholeNumber('--notice', raw.notice, 0, 3_600),
    mode: modeFrom(raw.mode),
    slowMs: wholeNumber('--slow-ms', raw.slowMs, 0, 60_000),
    json: raw.json === true,
  };
}

function checkEngine(engine: string): void {
  if (engine === 'llama-cpp' || engine === 'use-lite' || engine === 'trainer') return;
  if (!URL.canParse(engine) || !/^https?:$/.test(new URL(engine).protocol)) {
    throw new OptionError(
      `--engine ${engine}: expected llama-cpp, use-lite, trainer, or the http(s) URL of an OpenAI-compatible server.`,
    );
  }
}

/** `--rate outputToken=100000`, smallest token units per million. A kind that is named replaces its default. */
function ratesFrom(texts: readonly string[]): Rates {
  const rates: Partial<Record<UnitKind, bigint>> = { ...DEFAULT_RATES };
  for (const text of texts) {
    const [kind, amount] = text.split('=');
    if (kind === undefined || amount === undefined || !isUnitKind(kind) || !/^[0-9]{1,18}$/.test(amount)) {
      throw new OptionError(
        `--rate ${text}: expected kind=amount, kind one of ${UNIT_KINDS.join(', ')}, amount in smallest token units per million.`,
      );
    }
    rates[kind] = BigInt(amount);
  }
  return rates;
}

function isUnitKind(text: string): text is UnitKind {
  return (UNIT_KINDS as readonly string[]).includes(text);
}

function modeFrom(text: string): Mode {
  const mode = MODES.find((known) => known === text);
  if (mode === undefined) throw new OptionError(`--mode ${text}: expected one of ${MODES.join(', ')}.`);
  return mode;
}

function isolationFrom(text: string): Isolation {
  const isolation = ISOLATIONS.find((known) => known === text);
  if (isolation === undefined) throw new OptionError(`--isolation ${text}: expected one of ${ISOLATIONS.join(', ')}.`);
  return isolation;
}

function urlFrom(flag: string, text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new OptionError(`${flag} ${text}: expected the http(s) URL of an endpoint of the chain.`);
}

function amountFrom(flag: string, text: string): bigint {
  return BigInt(checkedText(flag, text, /^[0-9]{1,78}$/, "an amount in the token's smallest unit"));
}

function addressFrom(text: string): string {
  return checkedText('--payout', text.toLowerCase(), /^0x[0-9a-f]{40}$/, 'an address of 0x and 40 hexadecimal digits');
}

function wholeNumber(flag: string, text: string, min: number, max: number): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < min || number > max)
    throw new OptionError(`${flag} ${text}: expected a whole number from ${min} to ${max}.`);
  return number;
}

function checkedText(flag: string, text: string, pattern: RegExp, expected: string): string {
  if (!pattern.test(text)) throw new OptionError(`${flag} ${text}: expected ${expected}.`);
  return text;
}
