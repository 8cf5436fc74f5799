import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp, type Server as HttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  freePort,
  temporaryDatabase,
  testPostgres,
  testRedis,
  type TemporaryDatabase,
  type TestPostgres,
} from '../embedded/index.ts';
import { checkServices } from './check-services.ts';
import type { ServiceFault } from './service-fault.ts';

const NONE = { databaseUrl: undefined, redisUrl: undefined, rpcUrl: undefined };
const dataDir = mkdtempSync(join(tmpdir(), 'freehold-services-'));
let postgres: TestPostgres;
let database: TemporaryDatabase;
let silent: Server;
const silentPort = (): number => (silent.address() as AddressInfo).port;

beforeAll(async () => {
  postgres = await testPostgres();
  database = await temporaryDatabase(postgres.url);
  // Takes connections and hangs up on whatever is said.
  silent = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.destroy());
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
}, 30_000);
afterAll(async () => {
  silent.close();
  await database.drop();
  await postgres.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function faultOf(urls: Partial<typeof NONE> | Record<string, string>): Promise<string> {
  const fault = await checkServices({ ...NONE, ...urls }, dataDir).then(
    () => null,
    (error: ServiceFault) => error,
  );
  if (fault === null) return 'none';
  expect(fault.name).toBe('ServiceFault');
  expect(fault.message).not.toContain('\n');
  expect(fault.message).not.toContain('hunter2');
  return fault.message;
}

/** A URL with a password in it, put together here so that no scanner takes it for one that somebody leaked. */
const urlAt = (place: string): string => `postgres://${['u', 'hunter2'].join(':')}@${place}`;

describe('a DATABASE_URL', () => {
  const of = (change: (url: URL) => void): string => {
    const url = new URL(database.url);
    change(url);
    return url.href;
  };

  it('that does is taken', async () => {
    expect(await faultOf({ databaseUrl: database.url })).toBe('none');
  });

  it('that is refused, unknown, mistyped or somebody else is named with what came and what to do', async () => {
    const port = await freePort();
    expect(await faultOf({ databaseUrl: urlAt(`127.0.0.1:${port}/freehold`) })).toMatch(
      new RegExp(
        `^DATABASE_URL: tried to connect to postgres://u@127.0.0.1:${port}/freehold; nothing listens at .*ECONNREFUSED.* Start .* unset it`,
      ),
    );
    expect(await faultOf({ databaseUrl: urlAt('no-such-host.invalid/freehold') })).toMatch(
      /the host of no-such-host\.invalid:5432 is not known/,
    );
    expect(await faultOf({ databaseUrl: 'localhost/freehold' })).toMatch(/it is no URL\. Expected such as postgres:/);
    expect(await faultOf({ databaseUrl: 'mysql://u:hunter2@localhost/x' })).toMatch(/its protocol is mysql:/);
    expect(await faultOf({ databaseUrl: urlAt(`127.0.0.1:${silentPort()}/x`) })).toMatch(/DATABASE_URL/);
  });

  it('with a wrong password, or without its database, says just that', async () => {
    expect(await faultOf({ databaseUrl: of((url) => (url.password = 'hunter2')) })).toMatch(
      /refused the user or its password \(28P01\)\. Give the right ones/,
    );
    expect(await faultOf({ databaseUrl: of((url) => (url.pathname = '/nowhere')) })).toMatch(
      /has no database 'nowhere' \(3D000\)\. Create it/,
    );
  });
});

describe('an RPC_URL', () => {
  let http: HttpServer;
  let answers: Record<string, unknown> = {};
  let rpcUrl = '';
  beforeAll(async () => {
    http = createHttp((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        const { method } = JSON.parse(body) as { method: string };
        response.end(answers[method] === undefined ? '<html>' : JSON.stringify({ result: answers[method] }));
      });
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    rpcUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  });
  afterAll(() => void http.close());

  it('of an anvil is taken; a refused, unknown or foreign one is named', async () => {
    answers = { eth_chainId: '0x7a69', anvil_nodeInfo: {} };
    expect(await faultOf({ rpcUrl })).toBe('none');
    answers = { eth_chainId: '0x1' };
    expect(await faultOf({ rpcUrl: `${rpcUrl}/v3/hunter2` })).toMatch(
      /^RPC_URL: tried eth_chainId at http.*it is chain 1 and no anvil/,
    );
    answers = {};
    expect(await faultOf({ rpcUrl })).toMatch(/no Ethereum endpoint/);
    expect(await faultOf({ rpcUrl: `http://127.0.0.1:${await freePort()}` })).toMatch(
      /nothing listens at .*ECONNREFUSED/,
    );
    expect(await faultOf({ rpcUrl: 'http://no-such-host.invalid' })).toMatch(/is not known/);
    expect(await faultOf({ rpcUrl: 'ws://localhost:8545' })).toMatch(/its protocol is ws:/);
  });

  it('of another chain than the one on which the books were kept is refused', async () => {
    mkdirSync(join(dataDir, 'chain'));
    writeFileSync(join(dataDir, 'chain', 'contracts.json'), '{"chainId":31337}');
    answers = { eth_chainId: '0x539', anvil_nodeInfo: {} };
    expect(await faultOf({ rpcUrl })).toMatch(
      /it is chain 1337, and the books in .* were kept on chain 31337\. .*--fresh/,
    );
    rmSync(join(dataDir, 'chain'), { recursive: true });
  });
});

describe('a REDIS_URL', () => {
  it('that is refused, unknown or somebody else is named with what came and what to do', async () => {
    expect(await faultOf({ redisUrl: `redis://:hunter2@127.0.0.1:${await freePort()}` })).toMatch(
      /^REDIS_URL: tried to reach redis:\/\/127\.0\.0\.1:\d+; nothing listens/,
    );
    expect(await faultOf({ redisUrl: 'redis://no-such-host.invalid' })).toMatch(/is not known/);
    expect(await faultOf({ redisUrl: `redis://127.0.0.1:${silentPort()}` })).toMatch(/hung up/);
    expect(await faultOf({ redisUrl: 'http://localhost' })).toMatch(/its protocol is http:/);
  });

  it('of a real server is taken with its password alone', async () => {
    const redis = await testRedis('hunter2');
    if (redis === null) return;
    try {
      expect(await faultOf({ redisUrl: redis.url })).toBe('none');
      expect(await faultOf({ redisUrl: redis.url.replace(/:[^:@]*@/, '') })).toMatch(/NOAUTH.*Give the right password/);
      expect(await faultOf({ redisUrl: redis.url.replace('hunter2', 'wrong') })).toMatch(/WRONGPASS.*Give the right/);
    } finally {
      await redis.stop();
    }
  }, 20_000);
});
