import { DomainError } from '../errors.ts';

/** An amount of a token's smallest unit (the devnet token has 6 decimals), or of a pool's credit. Never negative on its own. */
export type Amount = bigint;

/** Rates are smallest token units per this many units of work. */
export const UNITS_PER_RATE = 1_000_000n;

/** Every kind of work that can be priced. The same words in offers, usage, rates and receipts. */
export const UNIT_KINDS = [
  'inputToken',
  'cachedInputToken',
  'outputToken',
  'embeddingToken',
  'trainingToken',
  'image',
  'audioSecond',
  'gpuMillisecond',
] as const;
export type UnitKind = (typeof UNIT_KINDS)[number];

/** Counted units by kind. A missing kind is zero. */
export type Usage = Readonly<Partial<Record<UnitKind, bigint>>>;
/** Smallest token units per {@link UNITS_PER_RATE} units, by kind. A missing kind is not offered and costs nothing. */
export type Rates = Readonly<Partial<Record<UnitKind, bigint>>>;

/** Refuses a negative amount: it is a bug or a forgery, never a price. */
export function amount(value: bigint): Amount {
  if (value < 0n) throw new DomainError({ code: 'AMOUNT_NEGATIVE', value });
  return value;
}

/** Adds two usages kind by kind. */
export function addUsage(a: Usage, b: Usage): Usage {
  const sum: Partial<Record<UnitKind, bigint>> = {};
  for (const kind of UNIT_KINDS) {
    const units = (a[kind] ?? 0n) + (b[kind] ?? 0n);
    if (units !== 0n) sum[kind] = units;
  }
  return sum;
}

/** What `usage` would cost before rounding, in millionths of the smallest token unit. */
export function microCost(usage: Usage, rates: Rates): bigint {
  let micro = 0n;
  for (const kind of UNIT_KINDS) {
    const units = usage[kind] ?? 0n;
    const rate = rates[kind] ?? 0n;
    if (units < 0n) throw new DomainError({ code: 'METER_NEGATIVE', kind, units });
    if (rate < 0n) throw new DomainError({ code: 'RATE_NEGATIVE', kind, rate });
    micro += units * rate;
  }
  return micro;
}

/** Usage or rates as JSON-safe decimal strings, for the wire and the database. */
export function unitsToJson(units: Usage | Rates): Record<string, string> {
  return Object.fromEntries(Object.entries(units).map(([kind, n]) => [kind, String(n)]));
}

/** The reverse of {@link unitsToJson}; unknown kinds are refused, because they would silently cost nothing. */
export function unitsFromJson(json: Readonly<Record<string, string>>): Usage {
  const units: Partial<Record<UnitKind, bigint>> = {};
  for (const [kind, text] of Object.entries(json)) {
    if (!(UNIT_KINDS as readonly string[]).includes(kind)) throw new DomainError({ code: 'UNIT_KIND_UNKNOWN', kind });
    units[kind as UnitKind] = BigInt(text);
  }
  return units;
}
