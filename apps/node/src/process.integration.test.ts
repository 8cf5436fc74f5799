import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  CheckingSink,
  embedding,
  eventually,
  NEVER,
  newFolder,
  removeFolders,
  rowInputs,
  TestMarket,
} from './market.fixture.ts';

const MAIN = join(process.cwd(), 'apps/node/dist/main.js');
const SERVE = join(process.cwd(), 'apps/node/dist/serve.js');
const DIGEST = /^declared:/;

interface Ready {
  readonly node: string;
  readonly address: string;
}

/** An OpenAI-compatible server in miniature: vectors that differ at every call, so that a row that ran twice would show. */
class VectorServer {
  readonly server: Server;
  calls = 0;
  delayMs = 0;

  constructor() {
    this.server = createServer((request, response) => {
      if (request.method === 'GET' && request.url === '/v1/models')
        return void response.end(JSON.stringify({ data: [{ id: 'text-embedding-test' }] }));
      if (request.method !== 'POST') return void response.writeHead(404).end();
      request.resume();
      request.on('end', () => {
        this.calls += 1;
        const answer = { data: [{ index: 0, embedding: [this.calls, 1, 2, 3] }], usage: { prompt_tokens: 3 } };
        setTimeout(
          () => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer)),
          this.delayMs,
        );
      });
    });
  }

  async listen(): Promise<string> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
}

describe('a node process', () => {
  const engine = new VectorServer();
  let engineUrl = '';
  let market: TestMarket;
  let dataDir: string;
  const children: ChildProcess[] = [];

  beforeAll(async () => void (engineUrl = await engine.listen()));
  afterAll(async () => {
    engine.server.close();
    await removeFolders();
  });
  beforeEach(async () => {
    market = new TestMarket();
    await market.open();
    dataDir = await newFolder();
    engine.delayMs = 0;
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
    await market.close();
  });

  async function up(flags: readonly string[] = []): Promise<{ child: ChildProcess; ready: Ready; log: string[] }> {
    const words = [
      'up',
      '--json',
      '--data',
      dataDir,
      '--engine',
      engineUrl,
      ...market.addresses.flatMap((address) => ['--coordinator', address]),
      '--rate',
      'embeddingToken=10',
      ...flags,
    ];
    const child = spawn(process.execPath, [MAIN, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    const log: string[] = [];
    createInterface({ input: child.stderr }).on('line', (line) => log.push(line));
    const lines = createInterface({ input: child.stdout });
    const ready = await Promise.race([
      once(lines, 'line').then(([line]) => JSON.parse(String(line)) as Ready),
      once(child, 'exit').then(() => Promise.reject(new Error(`it ended: ${log.join('\n')}`))),
    ]);
    await eventually('the process is welcomed', () => market.link.nodes().some(({ id }) => id === ready.node));
    return { child, ready, log };
  }

  function grantFor(nodeId: string, rows: number): ReturnType<TestMarket['grant']> {
    const model = market.link.nodes()[0]?.offer.engines[0]?.models[0];
    if (model === undefined) throw new Error('no model is offered');
    expect(model.digest).toMatch(DIGEST);
    return market.grant(nodeId, rows, { model: model.name, digest: model.digest });
  }
  const run = async (grant: ReturnType<TestMarket['grant']>, sink: CheckingSink) =>
    await market.link.runLease(grant, sink.durable, rowInputs(sink.durable, grant.rows), sink, NEVER);

  it('goes on after kill -9 in the middle of a lease, without running a row twice that it had finished', async () => {
    engine.delayMs = 15;
    const { child, ready } = await up(['--slots', '2']);
    const grant = grantFor(ready.node, 200);
    const first = new CheckingSink(market, grant, ready.address);
    first.onResults = (done) => void (done >= 100 && child.kill('SIGKILL'));
    const before = engine.calls;
    expect((await run(grant, first)).end).toBe('cut');
    await eventually('the coordinator sees it gone', () => market.link.nodes().length === 0);
    const again = await up(['--slots', '2']);
    expect(again.ready.node).toBe(ready.node);
    expect(market.events.held.at(-1)).toEqual([
      expect.objectContaining({ task: grant.task, epoch: 1, nonce: grant.nonce, committed: false }),
    ]);
    const second = new CheckingSink(market, grant, ready.address, first);
    expect(second.durable).toBeGreaterThan(0);
    await expect(run(grant, second)).resolves.toEqual({ end: 'committed' });
    expect(second.faults).toEqual([]);
    for (let index = 0; index < first.outputs.size; index += 1)
      expect(second.outputs.get(index)).toEqual(first.outputs.get(index));
    // At most the rows that were under way, or not yet on the disk, ran again.
    expect(engine.calls - before).toBeLessThanOrEqual(200 + 10);
  });

  it('killed between its answer to a chat and the acceptance, serves on after its restart and keeps the voucher', async () => {
    const limit = ['--unsigned-max', '3'];
    const { child, ready } = await up(limit);
    const [answered, more] = [grantFor(ready.node, 1), grantFor(ready.node, 1)];
    const chat = async (grant: typeof answered): Promise<string[]> => {
      const events: string[] = [];
      for await (const { type } of market.link.runStream(grant, embedding('a question'), NEVER)) events.push(type);
      return events;
    };
    await expect(chat(answered)).resolves.toEqual(['done']);
    // What is answered and not signed for is all that this coordinator gets.
    await expect(chat(more)).rejects.toMatchObject({ code: 'UNSIGNED' });
    child.kill('SIGKILL');
    await eventually('it is gone', () => market.link.nodes().length === 0);
    await up(limit);
    // The node's own word about a chat of seconds is gone with it; the coordinator's signed one is not.
    await expect(chat(more)).resolves.toEqual(['done']);
    const pay = { charge: 3n, fee: 0n };
    market.link.tell(
      ready.node,
      await market.acceptance(answered.task, ready.address, { ...pay, cumulative: 3n, total: 3n }),
    );
    market.link.tell(
      ready.node,
      await market.acceptance(more.task, ready.address, { ...pay, cumulative: 6n, total: 6n }),
    );
    await eventually('both vouchers are kept', () => market.events.kepts.length === 2);
    expect(new Set(market.events.kepts)).toEqual(new Set([answered.task, more.task]));
    // What `status` reads is written every two seconds; the command itself is a process each time.
    const receiptsOf = (status: string): unknown => (JSON.parse(status) as { receipts?: number }).receipts;
    const statusFile = join(dataDir, 'status.json');
    await eventually('the status has both', () => receiptsOf(readFileSync(statusFile, 'utf8')) === 2);
    expect(receiptsOf((await words('status')).out)).toBe(2);
    await expect(chat(grantFor(ready.node, 1))).resolves.toEqual(['done']);
  });

  it('dies after row 3 of a lease as a flapper, and commits the same lease after its restart', async () => {
    const { child, ready, log } = await up(['--mode', 'flapper']);
    expect(log.some((line) => line.includes('SIMULATION'))).toBe(true);
    const grant = grantFor(ready.node, 10);
    const first = new CheckingSink(market, grant, ready.address);
    const exit = once(child, 'exit');
    expect((await run(grant, first)).end).toBe('cut');
    expect((await exit)[1]).toBe('SIGKILL');
    expect(first.outputs.size).toBeLessThan(10);
    await eventually('it is gone', () => market.link.nodes().length === 0);
    await up(['--mode', 'flapper']);
    const second = new CheckingSink(market, grant, ready.address, first);
    await expect(run(grant, second)).resolves.toEqual({ end: 'committed' });
    expect(second.faults).toEqual([]);
  });

  it('keeps its key to itself, tells its status, refuses a second start, and drains', async () => {
    const { child, ready } = await up();
    const status = await words('status');
    expect(JSON.parse(status.out)).toMatchObject({
      node: ready.node,
      address: ready.address,
      state: 'up',
      receipts: 0,
    });
    await expect(words('up', '--engine', engineUrl, '--coordinator', market.addresses[0] ?? '')).resolves.toMatchObject(
      { code: 1, err: expect.stringContaining('already') },
    );
    const exit = once(child, 'exit');
    expect((await words('drain')).code).toBe(0);
    expect((await exit)[0]).toBe(0);
    expect((await words('status')).code).toBe(1);
    const { mode } = await import('node:fs').then(({ statSync }) => statSync(join(dataDir, 'node.key')));
    expect(mode & 0o777).toBe(0o600);
  });

  it('hands its lease back and ends when it is asked to by SIGTERM', async () => {
    engine.delayMs = 20;
    const { child, ready } = await up();
    const grant = grantFor(ready.node, 30);
    const sink = new CheckingSink(market, grant, ready.address);
    const lease = run(grant, sink);
    await eventually('rows come', () => sink.outputs.size > 2);
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    expect((await lease).end).toBe('committed');
    expect((await exit)[0]).toBe(0);
    expect(sink.faults).toEqual([]);
  });

  it('says what is wrong with a command line', async () => {
    await expect(words('up', '--engine', 'abacus', '--coordinator', market.addresses[0] ?? '')).resolves.toMatchObject({
      code: 1,
      err: expect.stringContaining('expected llama-cpp, use-lite'),
    });
    await expect(words('up', '--engine', 'use-lite')).resolves.toMatchObject({
      code: 1,
      err: expect.stringContaining('--coordinator'),
    });
    await expect(words('up', '--engine', engineUrl, '--coordinator', '/ip4/127.0.0.1/tcp/1')).resolves.toMatchObject({
      code: 1,
      err: expect.stringContaining('/p2p/'),
    });
  });

  async function words(...given: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const child = spawn(process.execPath, [MAIN, ...given, '--data', dataDir], { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => void (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => void (err += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, out, err };
  }
});

it('finds the built node process', () => {
  if (!existsSync(MAIN))
    throw new Error('apps/node/dist/main.js is not built: run npx tsc -b apps/node, or npm test, which does.');
  expect(readFileSync(SERVE, 'utf8')).toContain('endWithParent');
});
