import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Children, type ChildSpec } from './children.ts';
import { goneWithin, identityOf, isAlive, type ProcessIdentity } from './process-identity.ts';
import { self, writeRunRecord } from './run-record.ts';
import { testDisk } from './test-disk.ts';

const FOREVER = 'setInterval(() => {}, 1000);';
const STUBBORN = `process.on('SIGTERM', () => {}); console.log('up'); ${FOREVER}`;

let dataDir: string;
beforeEach(() => {
  dataDir = realpathSync(mkdtempSync(join(tmpdir(), 'freehold-children-test-')));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

function script(name: string, code: string, more: Partial<ChildSpec> = {}): ChildSpec {
  return { name, args: ['-e', code], ...more };
}

function identity(pid: number): ProcessIdentity {
  const found = identityOf(pid);
  if (!found) throw new Error(`process ${pid} is not alive`);
  return found;
}

/** Starts a child whose first line is awaited, so that its handlers stand before it is signalled. */
async function startAndHear(children: Children, spec: ChildSpec): Promise<{ line: string; pid: number }> {
  return await new Promise((resolve) => {
    const child = children.start({ ...spec, onLine: (line) => resolve({ line, pid: child.pid }) });
  });
}

/** Null where this kernel knows of none. */
function sessionNiceness(pid: number | 'self'): number | null {
  const path = `/proc/${pid}/autogroup`;
  if (!existsSync(path)) return null;
  return Number(/nice (-?\d+)/.exec(readFileSync(path, 'utf8'))?.[1]);
}

describe('the children of a launcher', () => {
  it('are recorded while they live, write their log, and are stopped last started first', async () => {
    const children = await Children.open(dataDir);
    const order: string[] = [];
    for (const name of ['one', 'two']) void children.start(script(name, FOREVER)).exited.then(() => order.push(name));
    expect(readdirSync(join(dataDir, 'run')).sort()).toEqual(['one.json', 'two.json']);
    await children.close();
    expect(order).toEqual(['two', 'one']);
    expect(readdirSync(join(dataDir, 'run'))).toEqual([]);
    expect(existsSync(join(dataDir, 'launcher.json'))).toBe(false);
    expect(readFileSync(join(dataDir, 'logs/one.log'), 'utf8')).toContain(FOREVER);
  });

  it('gives way where it shall, with all that it starts, after a restart too', async () => {
    const children = await Children.open(dataDir);
    const born = `const { getPriority } = require('node:os');
      const of = require('node:child_process').execFileSync(process.execPath, ['-p', 'os.getPriority()']);
      console.log(getPriority() + ' ' + String(of).trim()); setTimeout(() => process.exit(), 10)`;
    const lines: string[] = [];
    const own = getPriority();
    const restart = { attemptsMax: 1, delayMs: 1 };
    const nice = children.start({
      ...script('nice', born),
      niceness: own + 3,
      restart,
      onLine: (line) => lines.push(line),
    });
    await nice.exited;
    expect(lines).toEqual(Array(2).fill(`${own + 3} ${own + 3}`));
    expect(await startAndHear(children, script('plain', born))).toMatchObject({ line: `${own} ${own}` });
    await children.close();
  });

  it('gives way to other sessions too, where the kernel shares processors among sessions', async () => {
    const children = await Children.open(dataDir);
    // Several at once: who is not root may say it once in a tenth of a second.
    const starting = ['a', 'b', 'c'].map(async (name) => {
      const { pid } = await startAndHear(children, { ...script(name, `console.log('up'); ${FOREVER}`), niceness: 3 });
      return pid;
    });
    const pids = await Promise.all(starting);
    const own = sessionNiceness('self');
    const wanted = own === null ? null : 3;
    for (let looks = 0; looks < 50 && pids.some((pid) => sessionNiceness(pid) !== wanted); looks += 1) await sleep(100);
    expect(pids.map(sessionNiceness)).toEqual([wanted, wanted, wanted]);
    expect(sessionNiceness('self')).toBe(own);
    await children.close();
  });

  it('of one group stop side by side, before what was started earlier', async () => {
    const children = await Children.open(dataDir);
    const order: string[] = [];
    const note = (name: string) => void children.get(name)?.exited.then(() => order.push(name));
    const slow = (ms: number) =>
      `process.on('SIGTERM', () => setTimeout(() => process.exit(), ${ms})); console.log('up'); ${FOREVER}`;
    await startAndHear(children, script('ground', slow(0)));
    await startAndHear(children, script('quick', slow(0), { stopGroup: 'nodes' }));
    await startAndHear(children, script('lazy', slow(300), { stopGroup: 'nodes' }));
    for (const name of ['ground', 'quick', 'lazy']) note(name);
    await children.close();
    expect(order).toEqual(['quick', 'lazy', 'ground']);
  });

  it('are killed with their own children when they do not stop when asked', async () => {
    const children = await Children.open(dataDir);
    const nested = `const c = require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(STUBBORN)}], {stdio: ['ignore', 'pipe', 'ignore']});
      process.on('SIGTERM', () => {}); c.stdout.once('data', () => console.log(c.pid)); ${FOREVER}`;
    const { line } = await startAndHear(children, script('stubborn', nested));
    const grandchild = identity(Number(line));
    expect(await children.get('stubborn')?.stop(100)).toBe('killed');
    expect(await goneWithin(grandchild, 2_000)).toBe(true);
    await children.close();
  });

  it('that a killed launcher left behind are stopped at the next start, and a stranger with a recorded number is not', async () => {
    const orphan = spawn(process.execPath, ['-e', FOREVER], { stdio: 'ignore', detached: true });
    const bystander = spawn(process.execPath, ['-e', FOREVER], { stdio: 'ignore', detached: true });
    const [orphanId, bystanderId] = [identity(orphan.pid ?? -1), identity(bystander.pid ?? -1)];
    const first = await Children.open(dataDir);
    await first.close();
    const deadOwner = { pid: 4_194_304, startedAs: 'long-gone' };
    const rest = { owner: deadOwner, stopSignal: 'SIGTERM', stopTimeoutMs: 1_000 } as const;
    writeRunRecord(join(dataDir, 'run/orphan.json'), { name: 'orphan', child: orphanId, ...rest });
    writeRunRecord(join(dataDir, 'run/recycled.json'), {
      name: 'recycled',
      child: { pid: bystanderId.pid, startedAs: 'another-time' },
      ...rest,
    });
    writeFileSync(join(dataDir, 'run/torn.json'), '{"name":"to');

    const second = await Children.open(dataDir);
    expect(isAlive(orphanId)).toBe(false);
    expect(isAlive(bystanderId)).toBe(true);
    await second.close();
    bystander.kill('SIGKILL');
  });

  it('belong to one launcher: a second start on the same data is refused and told by whom', async () => {
    const other = spawn(process.execPath, ['-e', FOREVER], { stdio: 'ignore' });
    const owner = identity(other.pid ?? -1);
    writeRunRecord(join(dataDir, 'launcher.json'), {
      name: 'launcher',
      child: owner,
      owner,
      stopSignal: 'SIGTERM',
      stopTimeoutMs: 1,
    });
    await expect(Children.open(dataDir)).rejects.toMatchObject({ detail: { code: 'DATA_DIR_IN_USE', pid: other.pid } });
    other.kill('SIGKILL');
    await once(other, 'exit');
    const taken = await Children.open(dataDir);
    await taken.close();
  });

  it('are stopped in order when the process that started their launcher is killed', async () => {
    const launcher = join(import.meta.dirname, `../../.launcher-of-children-${process.pid}.ts`);
    const flags = ['--import', join(import.meta.dirname, '../../../../test/from-source.mjs'), '--conditions=source'];
    writeFileSync(
      launcher,
      `import { Children } from ${JSON.stringify(join(import.meta.dirname, 'children.ts'))};
       const children = await Children.open(${JSON.stringify(dataDir)});
       children.closeOnSignals(undefined, async () => process.stdout.write('closed\\n'));
       process.stdout.write(children.start({ name: 'child', args: ['-e', ${JSON.stringify(FOREVER)}] }).pid + '\\n');`,
    );
    const grandparent = `const c = require('node:child_process').spawn(process.execPath, ${JSON.stringify([...flags, launcher])}, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }); ${FOREVER}`;
    try {
      const top = spawn(process.execPath, ['-e', grandparent], { stdio: ['ignore', 'pipe', 'inherit'] });
      const said = createInterface({ input: top.stdout })[Symbol.asyncIterator]();
      const child = identity(Number((await said.next()).value));
      top.kill('SIGKILL');
      expect((await said.next()).value).toBe('closed');
      expect(isAlive(child)).toBe(false);
      expect(existsSync(join(dataDir, 'launcher.json'))).toBe(false);
    } finally {
      rmSync(launcher, { force: true });
    }
  });

  it('stay down when they die, unless a restart was asked for', async () => {
    const children = await Children.open(dataDir);
    const count = join(dataDir, 'count');
    const dying = `require('node:fs').appendFileSync(${JSON.stringify(count)}, 'x'); process.exit(3);`;
    expect(await children.start(script('once', dying)).exited).toEqual({ code: 3, signal: null });
    expect(readFileSync(count, 'utf8')).toBe('x');
    await children.start(script('thrice', dying, { restart: { attemptsMax: 2, delayMs: 1 } })).exited;
    expect(readFileSync(count, 'utf8')).toBe('xxxx');
    await children.close();
  });

  it('say so when they cannot be started at all', async () => {
    const children = await Children.open(dataDir);
    const child = children.start({ name: 'missing', command: join(dataDir, 'no-such-program'), args: [] });
    expect(await child.exited).toEqual({ code: 127, signal: null });
    expect(readFileSync(child.logFile, 'utf8')).toContain('ENOENT');
    await children.close();
  });

  it('have logs that stay within their limit while they run, with what was put aside beside them', async () => {
    const children = await Children.open(dataDir, { bytesMax: 20_000, lookMs: 20 });
    const loud = children.start(script('loud', `setInterval(() => console.log('x'.repeat(999)), 1)`));
    while (!existsSync(`${loud.logFile}.1`)) await sleep(20);
    const aside = statSync(`${loud.logFile}.1`).size;
    for (let look = 0; look < 5; look += 1) {
      await sleep(20);
      // As much as it writes between two looks may stand above the limit.
      expect(statSync(loud.logFile).size).toBeLessThan(10 * 20_000);
    }
    expect(aside).toBeGreaterThan(20_000);
    await children.close();
  });

  it('work on when the disk under their logs is full, and write again when it has room', async () => {
    const disk = testDisk(1);
    if (disk === null) return;
    try {
      const children = await Children.open(disk.folder);
      const outlive = pathToFileURL(join(import.meta.dirname, '../../dist/embedded/child-log.js')).href;
      const lines = `import(${JSON.stringify(outlive)}).then(({ outliveFullLog }) => {
        outliveFullLog();
        process.send('ready');
        process.on('message', (m) => { process.stderr.write(m.text.repeat(8_192)); process.send('wrote'); });
      })`;
      const heard: unknown[] = [];
      const child = children.start(script('writer', lines, { ipc: true, onMessage: (word) => void heard.push(word) }));
      const until = async (words: number): Promise<void> => {
        while (heard.length < words)
          await Promise.race([sleep(10), child.exited.then(() => expect(heard).toBe('alive'))]);
      };
      await until(1);
      disk.fill(0);
      child.send({ text: 'a' });
      child.send({ text: 'b' });
      await until(3);
      disk.free();
      child.send({ text: 'c' });
      await until(4);
      expect(readFileSync(child.logFile, 'utf8')).toContain('c'.repeat(8_192));
      await children.close();
    } finally {
      disk.remove();
    }
  });

  it('reads and writes messages, and hears no more lines than the child wrote', async () => {
    const children = await Children.open(dataDir);
    const seen: unknown[] = [];
    const echo = `process.on('message', (m) => { process.send({ echo: m }); process.disconnect(); console.log('bye'); });`;
    const child = children.start(
      script('echo', echo, {
        ipc: true,
        onMessage: (message) => seen.push(message),
        onLine: (line) => seen.push(line),
      }),
    );
    child.send({ n: 1 });
    await child.exited;
    expect(seen).toHaveLength(2);
    expect(seen).toEqual(expect.arrayContaining([{ echo: { n: 1 } }, 'bye']));
    expect(self().pid).toBe(process.pid);
    await children.close();
  });
});
