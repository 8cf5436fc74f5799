import { randomBytes } from 'node:crypto';

const RANDOM_BYTES = 8;
const RANDOM_HEX = 2 * RANDOM_BYTES;
/** What the twelve bits beside the version count to. */
const COUNTED = 4_096;
const VARIANTS = '89ab';

/**
 * Ids of new tasks, RFC 9562 version 7: those that are written together stand together in every index that they are in, where
 * random ones would touch a page each. Nothing rests on their being hard to guess; 62 bits of each are random all the same.
 */
export function taskIds(count: number, nowMs: number): string[] {
  const random = randomBytes(count * RANDOM_BYTES).toString('hex');
  const ids: string[] = [];
  for (let of = 0; of < count; of += COUNTED) {
    const time = (nowMs + of / COUNTED).toString(16).padStart(12, '0');
    const start = `${time.slice(0, 8)}-${time.slice(8)}-7`;
    for (let i = of; i < Math.min(of + COUNTED, count); i += 1) {
      const at = i * RANDOM_HEX;
      const counted = (COUNTED + i - of).toString(16).slice(1);
      const variant = VARIANTS[random.charCodeAt(at) % 4];
      ids.push(`${start}${counted}-${variant}${random.slice(at + 1, at + 4)}-${random.slice(at + 4, at + RANDOM_HEX)}`);
    }
  }
  return ids;
}
