import { describe, expect, it } from '@jest/globals';
import { ANY_NODE, atOnce, type Ask } from '@freehold/domain';
import { formatMoney, parseMoney, type Offer } from '@freehold/protocol';
import { maxCostFor, pricedAsTraining, pricedJob, type Priced } from './max-cost.ts';
import type { JobView } from './ports/job-store.ts';

const HOUR_MS = 3_600_000;
const CATALOGUE = { v: 1 as const, models: [] };
const LINE = JSON.stringify({
  custom_id: 'a',
  method: 'POST',
  url: '/v1/chat/completions',
  body: { model: 'm', messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 },
});
const anywhere = { regions: [], capabilities: [], ...ANY_NODE } as unknown as Ask; // what of an ask a price depends on

function offer(node: string, region: string, name: string, rates: Readonly<Record<string, string>>): Offer {
  const kind = name === 'm' ? 'chat' : 'fine-tune';
  const model = { name, kind, digest: 'd', contextTokens: 64, rates, caps: {} };
  const facts = { region, gpus: [], isolation: 'none', pools: [] };
  return { node, payout: node, ...facts, engines: [{ class: 'c', models: [model] }] } as unknown as Offer; // likewise
}

describe('what a job would have to be allowed to cost', () => {
  const offers = [
    offer('cheap', 'eu', 'm', { inputToken: '1000000', outputToken: '1000000' }),
    offer('dear', 'us', 'm', { inputToken: '3000000', outputToken: '90000000' }),
  ];
  const job = {
    ...{ kind: 'batch', endpoint: '/v1/chat/completions', model: 'm', inputFileId: 'file-1' },
    ...{ tuned: null, worst: null, metadata: { max_cost: '0.0002' } },
  } as unknown as JobView; // what is priced
  const priced = (file: string): Promise<Priced | undefined> => {
    const bytes = Buffer.from(file);
    const read = async function* (): AsyncGenerator<Uint8Array> {
      yield bytes;
    };
    const objects = { size: () => Promise.resolve(bytes.length), read };
    return pricedJob({ objects, offers: { offers: () => Promise.resolve(offers) }, catalogue: CATALOGUE }, job);
  };

  it('is named for a batch by its file, to the last unit: with one less it is not admitted', async () => {
    const known = await priced(LINE);
    if (known === undefined) throw new Error('not priced');
    const rates = { inputToken: 3_000_000n, outputToken: 90_000_000n };
    const cost = atOnce(maxCostFor(known)(anywhere, rates)) ?? '';
    const units = BigInt(Math.round(Number(cost) * 1e6));
    expect(atOnce(maxCostFor({ ...known, maxCost: units })(anywhere, rates))).toBeUndefined();
    expect(atOnce(maxCostFor({ ...known, maxCost: units - 1n })(anywhere, rates))).toBe(cost);
    // Where all are as dear, it is what is usual there.
    expect(atOnce(maxCostFor({ ...known, maxCost: null })({ ...anywhere, regions: ['us'] }, rates))).toBeUndefined();
    expect(atOnce(maxCostFor({ ...known, ceiling: { inputToken: 1n, outputToken: 1n } })(anywhere, rates))).toBeNull();
  });

  it('is what admits all that is usual, where lists that mix their rates otherwise cost the same, and the ceiling where that is it', () => {
    const worst = { inputToken: 1_000_000n, outputToken: 1_000_000n };
    const lists = [
      { inputToken: 10n, outputToken: 1n },
      { inputToken: 1n, outputToken: 10n },
    ];
    const posted: Priced['posted'] = function* () {
      yield;
      return lists;
    };
    const same: Priced = { worst, maxCost: 1n, ceiling: null, posted };
    for (const rates of lists) {
      const cost = atOnce(maxCostFor(same)(anywhere, rates)) ?? '';
      const maxCost = parseMoney(cost);
      expect(atOnce(maxCostFor({ ...same, maxCost })(anywhere, rates))).toBeUndefined();
    }
    const ceiling = { inputToken: 30n, outputToken: 30n };
    // Nobody who is here asks as much: only the ceiling admits it.
    const away = { inputToken: 12n, outputToken: 12n };
    expect(atOnce(maxCostFor({ ...same, ceiling })(anywhere, away))).toBe(formatMoney(60n));
    expect(atOnce(maxCostFor({ ...same, ceiling })(anywhere, { inputToken: 31n, outputToken: 1n }))).toBeNull();
  });

  it('is not known of a file that is gone, broken, or not read in a moment', async () => {
    expect(await priced('')).toBeUndefined();
    expect(await priced('{')).toBeUndefined();
    expect(await priced(`${LINE}\n`.repeat(20_000))).toBeUndefined();
  });

  const kept = (of: Partial<JobView>, book: readonly Offer[] = offers): Promise<Priced | undefined> => {
    const gone = { size: () => Promise.resolve(null), read: () => Promise.reject(new Error('it was read')) as never };
    const ports = { objects: gone, offers: { offers: () => Promise.resolve(book) }, catalogue: CATALOGUE };
    return pricedJob(ports, { ...job, ...of });
  };

  it('is known without the file by what the job was read to count as when it began', async () => {
    const worst = { inputToken: 9_000_000n, outputToken: 1_000n };
    expect(await kept({ worst })).toMatchObject({ worst, maxCost: 200n, ceiling: null });
    expect(await kept({ worst, model: 'nobodys' })).toBeUndefined();
  });

  it('is, of a fine-tune that answers, by the prices of those who take adapters', async () => {
    const [cheap] = offers;
    if (cheap === undefined) throw new Error('no offer');
    const takes = structuredClone(cheap);
    const rates = { inputToken: '7', outputToken: '7' };
    for (const { models } of takes.engines)
      for (const one of models) Object.assign(one, { rates, caps: { lora: true } });
    const tuned = { name: 'ft:m:mine', adapter: 'a' };
    const known = await kept({ tuned, worst: { inputToken: 1n } }, [...offers, takes]);
    if (known === undefined) throw new Error('not priced');
    expect(atOnce(known.posted(null, ANY_NODE, true))).toEqual([{ inputToken: 7n, outputToken: 7n }]);
    // Without the fine-tune others may do it as well.
    expect(atOnce(known.posted(null, ANY_NODE, false))).toHaveLength(2);
  });

  it('is, of a job that trains, by what it trains on', async () => {
    const trainers = [offer('a', 'eu', 'trainer/base', { trainingToken: '10' })];
    const worst = { trainingToken: 5n };
    const known = await kept({ kind: 'fine-tune', model: 'trainer/base', worst }, trainers);
    if (known === undefined) throw new Error('not priced');
    expect(known.worst).toEqual(worst);
    expect(atOnce(known.posted(null, ANY_NODE, false))).toEqual([{ trainingToken: 10n }]);
    expect(await kept({ kind: 'fine-tune', model: 'trainer/base' }, trainers)).toBeUndefined();
  });

  it('is, of training, by the prices of those who may do it', () => {
    const trainers = [
      offer('a', 'eu', 'trainer/base', { trainingToken: '10' }),
      offer('b', 'us', 'trainer/base', { trainingToken: '700' }),
    ];
    const { posted } = pricedAsTraining(
      'base',
      { catalogue: CATALOGUE, offers: trainers },
      { trainingToken: 1n },
      null,
      HOUR_MS,
    );
    expect(atOnce(posted('eu', ANY_NODE, false))).toEqual([{ trainingToken: 10n }]);
    expect(atOnce(posted(null, ANY_NODE, false))).toHaveLength(2);
  });

  it('is, of training, by nobody who left, while anybody trains here, wherever that is', () => {
    const price = (offers: readonly Offer[]): readonly unknown[] => {
      const usage = { trainingToken: 1n };
      return atOnce(
        pricedAsTraining('base', { catalogue: CATALOGUE, offers }, usage, null, HOUR_MS).posted('eu', ANY_NODE, false),
      );
    };
    const gone = { ...offer('gone', 'eu', 'trainer/base', { trainingToken: '900000' }), awayMs: 1e9 };
    const here = offer('here', 'us', 'trainer/base', { trainingToken: '700' });
    expect(price([gone, here])).toEqual([{ trainingToken: 700n }]);
    expect(price([gone])).toEqual([{ trainingToken: 900_000n }]);
  });
});
