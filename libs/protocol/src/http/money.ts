/** Decimals of the market's token: amounts on the API are decimal strings of whole tokens. */
export const MONEY_DECIMALS = 6;
const MONEY_PATTERN = /^(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,6}))?$/;

/** "12.5" → 12500000n; null when it is not a plain decimal with at most six places. Never through a float. */
export function parseMoney(text: string): bigint | null {
  const match = MONEY_PATTERN.exec(text);
  if (match === null) return null;
  return BigInt(match[1] ?? '0') * 10n ** BigInt(MONEY_DECIMALS) + BigInt((match[2] ?? '').padEnd(MONEY_DECIMALS, '0'));
}

/** 12500000n → "12.5". */
export function formatMoney(amount: bigint): string {
  const digits = String(amount < 0n ? -amount : amount).padStart(MONEY_DECIMALS + 1, '0');
  const fraction = digits.slice(-MONEY_DECIMALS).replace(/0+$/, '');
  return `${amount < 0n ? '-' : ''}${digits.slice(0, -MONEY_DECIMALS)}${fraction === '' ? '' : `.${fraction}`}`;
}

/**
 * A rate (smallest units per million units of work) as price of one unit of work in whole tokens, the way OpenRouter lists
 * prices: "0.0000002".
 */
export function formatUnitPrice(rate: bigint): string {
  const places = MONEY_DECIMALS + 6;
  const digits = String(rate).padStart(places + 1, '0');
  const fraction = digits.slice(-places).replace(/0+$/, '');
  return `${digits.slice(0, -places)}${fraction === '' ? '' : `.${fraction}`}`;
}
