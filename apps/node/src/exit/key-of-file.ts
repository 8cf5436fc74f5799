import { readFile } from 'node:fs/promises';
import { OptionError } from '../options.ts';

/** The private key in a file: 64 hexadecimal digits, or the `walletKey` of a JSON file such as a devnet's `requester.json`. */
export async function keyOfFile(path: string): Promise<`0x${string}`> {
  const text = await readFile(path, 'utf8').catch(() => null);
  if (text === null) throw new OptionError(`${path}: there is no such key file.`);
  const named = /"walletKey"\s*:\s*"(0x[0-9a-f]{64})"/.exec(text)?.[1];
  const digits = named?.slice(2) ?? text.trim().replace(/^0x/, '');
  if (!/^[0-9a-f]{64}$/i.test(digits))
    throw new OptionError(`${path} holds no key: expected 64 hexadecimal digits, or JSON with "walletKey".`);
  return `0x${digits.toLowerCase()}`;
}
