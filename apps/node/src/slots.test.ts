import { describe, expect, it } from '@jest/globals';
import { Slots } from './slots.ts';

const NEVER = new AbortController().signal;
const LONG_MS = 5_000;

describe('the slots of a model', () => {
  it('gives no more slots than there are, also to callers of the same turn', async () => {
    const slots = new Slots(2, 50, () => undefined);
    const taken = await Promise.all([1, 2, 3].map(async () => await slots.takeRow(10, NEVER)));
    expect(taken.filter((release) => release !== null)).toHaveLength(2);
    expect(slots.free).toBe(0);
  });

  it('lets a waiting chat go before waiting rows', async () => {
    const slots = new Slots(1, 50, () => undefined);
    const first = await slots.takeRow(LONG_MS, NEVER);
    const order: string[] = [];
    const row = slots.takeRow(LONG_MS, NEVER).then((release) => (order.push('row'), release));
    const chat = slots.takeChat(LONG_MS, NEVER).then((admission) => (order.push('chat'), admission));
    first?.();
    const admission = await chat;
    expect(admission.admitted && slots.chats === 1).toBe(true);
    if (admission.admitted) admission.release();
    (await row)?.();
    expect(order).toEqual(['chat', 'row']);
    expect(slots.free).toBe(1);
  });

  it('refuses a chat that waited long enough, and one above the share of chat', async () => {
    const slots = new Slots(2, 50, () => undefined);
    const rows = await Promise.all([slots.takeRow(LONG_MS, NEVER), slots.takeRow(LONG_MS, NEVER)]);
    await expect(slots.takeChat(20, NEVER)).resolves.toMatchObject({ admitted: false, code: 'NODE_BUSY' });
    rows[0]?.();
    await expect(slots.takeChat(0, NEVER)).resolves.toMatchObject({ admitted: true });
    rows[1]?.();
    await expect(slots.takeChat(20, NEVER)).resolves.toMatchObject({ admitted: false, code: 'CHAT_SHARE' });
  });

  it('never gives chat a slot when its share is none, and at least one when it has any', async () => {
    await expect(new Slots(4, 0, () => undefined).takeChat(0, NEVER)).resolves.toMatchObject({ code: 'CHAT_SHARE' });
    expect(new Slots(1, 10, () => undefined).chatMax).toBe(1);
  });

  it('gives a slot back once, however often it is released', async () => {
    const slots = new Slots(1, 50, () => undefined);
    const release = await slots.takeRow(LONG_MS, NEVER);
    release?.();
    release?.();
    expect(slots.free).toBe(1);
  });

  it('forgets who stopped waiting', async () => {
    const slots = new Slots(1, 50, () => undefined);
    const release = await slots.takeRow(LONG_MS, NEVER);
    const stop = new AbortController();
    const waiting = slots.takeRow(LONG_MS, stop.signal);
    stop.abort();
    await expect(waiting).resolves.toBeNull();
    release?.();
    expect(slots.free).toBe(1);
  });
});
