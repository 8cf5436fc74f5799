import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startAnvil } from './anvil.ts';
import { identityOf, isAlive } from './process-identity.ts';
import { readRunRecord, writeRunRecord } from './run-record.ts';

let dir: string;
let stateFile: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'freehold-anvil-test-'));
  stateFile = join(dir, 'chain.json');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const HOLDER = '0x00000000000000000000000000000000000f4ee1';

async function rpc(url: string, method: string, params: unknown[] = []): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  return ((await response.json()) as { result: unknown }).result;
}

describe('the embedded chain', () => {
  it('answers as chain 31337, keeps its state over a stop, and leaves no process', async () => {
    const first = await startAnvil({ stateFile });
    expect(await rpc(first.url, 'eth_chainId')).toBe('0x7a69');
    await rpc(first.url, 'anvil_setBalance', [HOLDER, '0x1234']);
    await rpc(first.url, 'anvil_mine', ['0x3']);
    await first.stop();
    expect(identityOf(first.pid)).toBeUndefined();

    const second = await startAnvil({ stateFile, chainId: 31_337 });
    expect(await rpc(second.url, 'eth_getBalance', [HOLDER, 'latest'])).toBe('0x1234');
    expect(await rpc(second.url, 'eth_blockNumber')).toBe('0x3');
    await second.stop();
  });

  it('stops an orphan of a killed launcher first, and refuses one whose launcher lives', async () => {
    const first = await startAnvil({ stateFile, chainId: 4_242 });
    expect(await rpc(first.url, 'eth_chainId')).toBe('0x1092');
    const recordFile = `${stateFile}.run.json`;
    const record = readRunRecord(recordFile);
    const parent = identityOf(process.ppid);
    if (!record || !parent) throw new Error('expected a record and a living parent');
    writeRunRecord(recordFile, { ...record, owner: parent });
    await expect(startAnvil({ stateFile })).rejects.toThrow(`in use by process ${parent.pid}`);
    writeRunRecord(recordFile, { ...record, owner: { pid: 4_194_304, startedAs: 'long-gone' } });
    const second = await startAnvil({ stateFile, chainId: 4_242 });
    expect(isAlive(record.child)).toBe(false);
    await second.stop();
  });

  it('starts from the last whole copy when a kill tore its state', async () => {
    const first = await startAnvil({ stateFile });
    await rpc(first.url, 'anvil_setBalance', [HOLDER, '0x1234']);
    await first.stop();
    const whole = readFileSync(stateFile, 'utf8');
    writeFileSync(`${stateFile}.good`, whole);
    writeFileSync(stateFile, whole.slice(0, whole.length / 2));
    const second = await startAnvil({ stateFile });
    expect(await rpc(second.url, 'eth_getBalance', [HOLDER, 'latest'])).toBe('0x1234');
    await second.stop();
    // Without any copy the torn file is put aside and the chain begins anew, rather than never again.
    rmSync(`${stateFile}.good`, { force: true });
    writeFileSync(stateFile, '{"torn');
    const third = await startAnvil({ stateFile });
    expect(await rpc(third.url, 'eth_blockNumber')).toBe('0x0');
    expect(existsSync(`${stateFile}.torn`)).toBe(true);
    await third.stop();
  });

  it('mines by the clock when asked, says when its port is taken, and ends with its signal', async () => {
    const stop = new AbortController();
    const chain = await startAnvil({ stateFile, blockTimeSeconds: 1, signal: stop.signal });
    await expect(startAnvil({ stateFile: join(dir, 'other.json'), port: chain.port })).rejects.toThrow(
      `Port ${chain.port} on 127.0.0.1 is taken`,
    );
    stop.abort();
    await chain.exited;
    expect(identityOf(chain.pid)).toBeUndefined();
  });
});
