import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import OpenAI from 'openai';
import pg from 'pg';
import { createPublicClient, erc20Abi, http } from 'viem';
import { Market, ROOT, type Ready } from './market.ts';

interface Card {
  batches: { id: string; rowsIn: number; succeeded: number; failed: number; duplicates: number }[];
  search: { recallAt5: number; queries: number };
  answers: { correct: number; total: number };
  cheat: { caughtRows: number; badRowsDelivered: number; paid: string };
  flapper: { deaths: number; rowsRecovered: number };
  charged: string;
  cap: string;
  settlement: { transactions: number; gasPerRow: number; escrow: string; ledger: string; balanced: boolean };
  doctor: { checks: number; violations: number };
  holds: boolean;
}

/** What the devnet's embedding nodes ask, smallest units per million tokens. */
const EMBEDDING_RATE = 15_000;

interface Why {
  job: string;
  fitting: number;
  eliminated: { constraint: string }[];
  relaxations: { constraints: string[]; nodes: number; inYourHands: boolean }[];
  priceThatWouldDo: Record<string, string> | null;
}

interface NodeWhy {
  considered: number;
  priceThatWouldWin: { rates: Record<string, string> } | null;
}

describe('npm start', () => {
  let market: Market;
  let ready: Ready;
  let card: Card;
  let db: pg.Pool;
  let client: OpenAI;

  beforeAll(async () => {
    market = Market.start();
    ready = await market.line<Ready>();
    card = await market.line<Card>();
    db = new pg.Pool({ connectionString: ready.databaseUrl, max: 2 });
    db.on('error', () => undefined);
    client = new OpenAI({ baseURL: ready.baseURL, apiKey: ready.apiKey, maxRetries: 1 });
  }, 420_000);

  afterAll(async () => {
    await db?.end();
    await market?.stop();
    market?.remove();
  }, 60_000);

  it('answers every row of both batches once', () => {
    expect(card.batches).toHaveLength(2);
    for (const batch of card.batches) {
      expect(batch.succeeded).toBe(batch.rowsIn);
      expect(batch).toMatchObject({ failed: 0, duplicates: 0 });
    }
    expect(card.search.recallAt5).toBeGreaterThanOrEqual(0.5);
    expect(card.answers.correct / card.answers.total).toBeGreaterThanOrEqual(0.9);
    expect(card.answers.total).toBeGreaterThanOrEqual(40);
  });

  it('catches the cheat, delivers nothing of it and pays it nothing', async () => {
    expect(card.cheat).toMatchObject({ badRowsDelivered: 0, paid: '0' });
    expect(card.cheat.caughtRows).toBeGreaterThan(0);
    const { rows } = await db.query(`SELECT count(*)::int AS n FROM node WHERE rows_bad > 0 AND benched_until > now()`);
    expect(rows[0].n).toBe(1);
  });

  it('recovers the rows of a node that keeps dying', () => {
    expect(card.flapper.deaths).toBeGreaterThanOrEqual(1);
    expect(card.flapper.rowsRecovered).toBeGreaterThan(0);
  });

  it('charges within the cap, and its books agree with the chain when an outsider looks', async () => {
    expect(BigInt(card.charged)).toBeLessThanOrEqual(BigInt(card.cap));
    expect(BigInt(card.charged)).toBeGreaterThan(0n);
    expect(card.settlement.balanced).toBe(true);
    const { rows } = await db.query(
      `SELECT (SELECT coalesce(sum(amount), 0)::text FROM posting) AS sum, (SELECT coalesce(-sum(balance), 0)::text FROM account WHERE kind = 'escrow') AS escrow`,
    );
    expect(rows[0].sum).toBe('0');
    const chain = createPublicClient({ transport: http(ready.rpcUrl) });
    const held = await chain.readContract({
      address: ready.contracts.token as `0x${string}`,
      abi: erc20Abi,
      functionName: 'balanceOf',
      args: [ready.contracts.escrow as `0x${string}`],
    });
    expect(String(held)).toBe(rows[0].escrow);
  });

  it('signed every acceptance as a voucher that its node has stored', async () => {
    const { rows } = await db.query(
      `SELECT count(*)::int AS receipts, count(v.signature)::int AS signed FROM receipt r LEFT JOIN voucher v USING (task_id) WHERE r.charge > r.fee`,
    );
    expect(rows[0].receipts).toBeGreaterThan(0);
    expect(rows[0].signed).toBe(rows[0].receipts);
  });

  it('has a doctor that finds nothing, as a command beside the running market', () => {
    const doctor = spawnSync(
      process.execPath,
      ['apps/cli/dist/main.js', 'doctor', '--json', '--data', market.dataDir],
      { cwd: ROOT, encoding: 'utf8' },
    );
    expect(JSON.parse(doctor.stdout.trim())).toMatchObject({ violations: [] });
    expect(doctor.status).toBe(0);
  });

  it('says why a batch waits and what would place it, and to nodes the price that would have won', async () => {
    const line = JSON.stringify({
      custom_id: 'a',
      method: 'POST',
      url: '/v1/embeddings',
      body: { model: 'use-lite', input: 'hello' },
    });
    const file = await client.files.create({ file: new File([line], 'one.jsonl'), purpose: 'batch' });
    const { id } = await client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/embeddings',
      completion_window: '24h',
      metadata: { region: 'nowhere', wait: 'true', verify: 'off' },
    });
    while ((await client.batches.retrieve(id)).status === 'validating') await new Promise(setImmediate);
    const [elsewhere] = freehold<Why>('why', id);
    expect(elsewhere).toMatchObject({ job: id, fitting: 0 });
    expect(elsewhere?.eliminated.map(({ constraint }) => constraint)).toContain('region');
    expect(elsewhere?.relaxations[0]).toMatchObject({ constraints: ['region'], inYourHands: true });
    await db.query('UPDATE job SET region = NULL, rate_caps = $2 WHERE id = $1', [
      id,
      { embeddingToken: String(Math.floor(EMBEDDING_RATE / 2)) },
    ]);
    const [dear] = freehold<Why>('why', id);
    expect(dear?.relaxations[0]?.constraints).toEqual(['price']);
    expect(dear?.priceThatWouldDo).toEqual({ embeddingToken: String(EMBEDDING_RATE) });
    const nodes = freehold<NodeWhy>('node', 'why');
    const won = nodes.flatMap(({ priceThatWouldWin }) => priceThatWouldWin ?? []);
    expect(won.length).toBeGreaterThan(0);
    for (const { rates } of won) expect(Number(rates['embeddingToken'])).toBeLessThanOrEqual(EMBEDDING_RATE / 2);
    expect(nodes.every(({ considered }) => considered === 1)).toBe(true);
    await client.batches.cancel(id);
  });

  /** What a command of the CLI prints with --json beside the running market: a line each. */
  function freehold<Line>(...words: string[]): Line[] {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['apps/cli/dist/main.js', ...words, '--json', '--data', market.dataDir],
      { cwd: ROOT, encoding: 'utf8' },
    );
    if (stdout === '') throw new Error(`freehold ${words.join(' ')} said nothing: ${stderr}`);
    return stdout
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text) as Line);
  }

  it('stays up and streams a chat to the unmodified SDK', async () => {
    const stream = await client.chat.completions.create({
      model: 'freehold-tiny',
      messages: [{ role: 'user', content: 'What is 12 plus 30?' }],
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage: number | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage?.completion_tokens ?? usage;
    }
    expect(text.length).toBeGreaterThan(0);
    expect(usage).toBeGreaterThan(0);
  });

  it('writes nothing of what a prompt says into any log', async () => {
    const canary = 'canary-e2e-k4w8';
    await client.chat.completions.create({ model: 'freehold-tiny', messages: [{ role: 'user', content: canary }] });
    await client.embeddings.create({ model: 'use-lite', input: canary });
    const logs = [
      join(market.dataDir, 'postgres', 'postgres.log'),
      ...readdirSync(join(market.dataDir, 'logs')).map((name) => join(market.dataDir, 'logs', name)),
    ];
    expect(logs.length).toBeGreaterThan(6);
    expect(logs.filter((log) => readFileSync(log, 'utf8').includes(canary))).toEqual([]);
    expect(market.stderr).not.toContain(canary);
  });

  it('refuses a batch whose cap is too low, with the price that would do', async () => {
    const line = JSON.stringify({
      custom_id: 'a',
      method: 'POST',
      url: '/v1/embeddings',
      body: { model: 'use-lite', input: 'hello' },
    });
    const file = await client.files.create({ file: new File([line], 'one.jsonl'), purpose: 'batch' });
    const batch = await client.batches
      .create({
        input_file_id: file.id,
        endpoint: '/v1/embeddings',
        completion_window: '24h',
        metadata: { max_cost: '0.000000' },
      })
      .catch((error: unknown) => error as InstanceType<typeof OpenAI.APIError>);
    if (batch instanceof OpenAI.APIError) {
      expect(batch.message).toMatch(/0\.\d+|price|cap/i);
      return;
    }
    let state = batch;
    for (let i = 0; i < 50 && state.status === 'validating'; i += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      state = await client.batches.retrieve(batch.id);
    }
    expect(state.status).toBe('failed');
    expect(state.errors?.data?.[0]?.code).toBe('cap_too_low');
    expect(state.errors?.data?.[0]?.message).toMatch(/\d/);
  });

  it('refuses a second start on the same data and says who has it', async () => {
    const second = Market.start([], market.dataDir);
    expect(await second.exited).not.toBe(0);
    expect(second.stderr).toContain(String(market.pid));
    const models = await client.models.list();
    expect(models.data.map((model) => model.id)).toEqual(expect.arrayContaining(['freehold-tiny', 'use-lite']));
  }, 60_000);

  it('stops every process it started on Ctrl-C', async () => {
    expect(market.processes().length).toBeGreaterThan(4);
    market.interrupt();
    await market.exited;
    expect(market.processes()).toEqual([]);
  }, 60_000);
});
