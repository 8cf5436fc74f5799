import { randomBytes } from 'node:crypto';

const RANDOM_BYTES = 8;
const RANDOM_HEX = 2 * RANDOM_BYTES;
/** What the twelve bits beside the version count to. */
const COUNTED = 4_096;

/**
 * Ids of new tasks, RFC 9562 version 7: those that are written together stand together in every index that they are in, where
 * random ones would touch a page each. Nothing rests on their being hard to guess; 62 bits of each are random all the same.
 */
export function taskIds(count: number, nowMs: number): string[] {
  const random = randomBytes(count * RANDOM_BYTES).toString('hex');
  return Array.from({ length: count }, (_, i) => {
    const time = (nowMs + Math.floor(i / COUNTED)).toString(16).padStart(12, '0');
    const counted = (i % COUNTED).toString(16).padStart(3, '0');
    const own = random.slice(i * RANDOM_HEX, (i + 1) * RANDOM_HEX);
    const variant = (8 + (Number.parseInt(own[0] ?? '0', 16) % 4)).toString(16);
    return `${time.slice(0, 8)}-${time.slice(8)}-7${counted}-${variant}${own.slice(1, 4)}-${own.slice(4)}`;
  });
}
