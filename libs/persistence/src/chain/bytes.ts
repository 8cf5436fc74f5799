/** bytea as the 0x… of our ports, and back. */
export function hexOf(bytes: Buffer): string {
  return `0x${bytes.toString('hex')}`;
}

export function bytesOfHex(hex: string): Buffer {
  if (!/^0x([0-9a-f]{2})*$/i.test(hex)) throw new TypeError(`expected 0x… with whole bytes, got ${hex.slice(0, 20)}`);
  return Buffer.from(hex.slice(2), 'hex');
}
