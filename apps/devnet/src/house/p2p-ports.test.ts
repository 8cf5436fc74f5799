import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { freePort } from '@freehold/wiring/embedded';
import { portIn, rememberedPort, rememberPort } from './p2p-ports.ts';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'freehold-ports-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

describe('the ports that nodes know a house by', () => {
  it('are the same again after a restart, for each process its own', async () => {
    const [api, scheduler] = [await freePort(), await freePort()];
    rememberPort(dataDir, 'api', portIn([`/ip4/127.0.0.1/tcp/${api}/p2p/16Uiu2`]));
    rememberPort(dataDir, 'scheduler', scheduler);
    expect(await rememberedPort(dataDir, 'api')).toBe(api);
    expect(await rememberedPort(dataDir, 'scheduler')).toBe(scheduler);
    expect(await rememberedPort(dataDir, 'scheduler-2')).toBeUndefined();
  });

  it('are not asked for where somebody else has them, or the file is damaged', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve));
    const { port } = server.address() as { port: number };
    rememberPort(dataDir, 'api', port);
    expect(await rememberedPort(dataDir, 'api')).toBeUndefined();
    await new Promise((resolve) => server.close(resolve));
    expect(await rememberedPort(dataDir, 'api')).toBe(port);
    for (const damage of ['{', 'null', '{"api":-1}', '{"api":"x"}', '[]']) {
      writeFileSync(join(dataDir, 'p2p-ports.json'), damage);
      expect(await rememberedPort(dataDir, 'api')).toBeUndefined();
    }
    rememberPort(dataDir, 'api', port);
    expect(await rememberedPort(dataDir, 'api')).toBe(port);
  });
});
