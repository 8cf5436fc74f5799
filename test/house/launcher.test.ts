import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

const ROOT = join(import.meta.dirname, '../..');
/** Stands in for npm: notes its flags, "installs" a compiler that notes what it is given and leaves it as it is. */
const FAKE_NPM = `
  const fs = require('node:fs');
  fs.appendFileSync('npm.log', process.argv.slice(2).join(' ') + '\\n');
  if (fs.existsSync('npm-fails')) { console.error('E404 no such package'); process.exit(1); }
  fs.mkdirSync('node_modules/typescript', { recursive: true });
  fs.writeFileSync('node_modules/typescript/index.js', \`
    exports.ScriptTarget = exports.ModuleKind = {};
    exports.transpileModule = (text, { fileName }) => {
      require('node:fs').appendFileSync('built.log', require('node:path').relative('.', fileName) + '\\\\n');
      return text.includes('wrong') ? { diagnostics: [fileName] } : { outputText: text, diagnostics: [] };
    };
    exports.formatDiagnostics = ([file]) => file + ': expected something else';
  \`);
  if (process.argv.includes('--include=dev')) fs.mkdirSync('node_modules/jest', { recursive: true });
`;
const FAKE_DEVNET = `
  if (process.argv.includes('--stay')) {
    const end = (why) => { console.log(JSON.stringify({ why })); process.exit(7); };
    process.on('SIGTERM', () => end('SIGTERM'));
    process.once('disconnect', () => { require('node:fs').writeFileSync('orphaned', ''); process.exit(8); });
    setInterval(() => {}, 1000);
  } else process.exitCode = 3;
  // Said last: who reads it may send signals at once.
  console.log(JSON.stringify({ args: process.argv.slice(2) }));
`;

let house: string;

/** A house with the real launchers and nothing else that is real. */
beforeEach(() => {
  house = mkdtempSync(join(tmpdir(), 'freehold-launcher-test-'));
  cpSync(join(ROOT, 'scripts'), join(house, 'scripts'), { recursive: true });
  write('package.json', '{"type":"module"}');
  write('package-lock.json', '{"packages":{}}');
  write('tsconfig.json', '{"references":[{"path":"./apps/devnet"},{"path":"./libs/testing"}]}');
  write('tsconfig.base.json', '{}');
  for (const project of ['apps/devnet', 'libs/testing']) {
    write(`${project}/package.json`, '{"type":"commonjs"}');
    write(`${project}/tsconfig.json`, '{}');
    write(`${project}/src/main.ts`, project === 'apps/devnet' ? FAKE_DEVNET : '');
  }
  write('fake/package.json', '{"type":"commonjs"}');
  write('fake/npm-cli.js', FAKE_NPM);
  // What npm "installs" is CommonJS inside a house of modules.
  write('node_modules/package.json', '{"type":"commonjs"}');
});
afterEach(() => rmSync(house, { recursive: true, force: true, maxRetries: 3 }));

function write(file: string, text: string): void {
  mkdirSync(dirname(join(house, file)), { recursive: true });
  writeFileSync(join(house, file), text);
}

function lines(file: string): string[] {
  return existsSync(join(house, file)) ? readFileSync(join(house, file), 'utf8').trim().split('\n') : [];
}

function launch(script: string, args: readonly string[] = []) {
  const env = {
    ...process.env,
    npm_execpath: join(house, 'fake/npm-cli.js'),
    DATABASE_URL: 'unused',
    RPC_URL: 'unused',
  };
  const child = spawn(process.execPath, [join(house, 'scripts', script), ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const heard = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (heard.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (heard.stderr += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...heard }));
  return { child, heard, ended };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('npm start', () => {
  it('installs and builds on a bare clone, hands on flags and exit code, and keeps stdout for what it launches', async () => {
    const first = await launch('start.mjs', ['--once', '--json']).ended;
    expect(first).toMatchObject({ code: 3, stdout: '{"args":["--once","--json"]}\n' });
    expect(first.stderr).toMatch(/installing runtime dependencies[^]*installed in[^]*built in/);
    expect(lines('npm.log')).toEqual([expect.stringMatching(/^install .*--ignore-scripts.*--omit=dev/)]);
    expect(lines('built.log').sort()).toEqual(['apps/devnet/src/main.ts', 'libs/testing/src/main.ts']);

    const second = await launch('start.mjs').ended;
    expect(second).toMatchObject({ code: 3, stderr: '' });
    expect(lines('npm.log')).toHaveLength(1);
    expect(lines('built.log')).toHaveLength(2);
  });

  it('builds again when a source changed and installs again when the lock file did, but never for a test', async () => {
    await launch('start.mjs').ended;
    write('apps/devnet/src/main.test.ts', 'export {};');
    await launch('start.mjs').ended;
    expect(lines('built.log')).toHaveLength(2);
    write('apps/devnet/src/main.ts', 'process.exitCode = 5;');
    expect(await launch('start.mjs').ended).toMatchObject({ code: 5 });
    expect(lines('built.log')).toHaveLength(4);
    write('package-lock.json', '{"packages":{"":{}}}');
    await launch('start.mjs').ended;
    expect(lines('npm.log')).toHaveLength(2);
  });

  it('says what the compiler said when a file is none, launches nothing, and tries again the next time', async () => {
    write('apps/devnet/src/wrong.ts', 'wrong');
    for (let start = 0; start < 2; start += 1) {
      const { code, stdout, stderr } = await launch('start.mjs').ended;
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/wrong\.ts: expected something else[^]*The build failed/);
    }
    rmSync(join(house, 'apps/devnet/src/wrong.ts'));
    expect(await launch('start.mjs').ended).toMatchObject({ code: 3 });
  });

  it('never cuts a full install down to what production needs', async () => {
    mkdirSync(join(house, 'node_modules/jest'), { recursive: true });
    await launch('start.mjs').ended;
    expect(lines('npm.log')).toEqual([expect.stringContaining('--include=dev')]);
    write('package-lock.json', '{"packages":{"":{}}}');
    await launch('start.mjs').ended;
    expect(lines('npm.log')[1]).toContain('--include=dev');
  });

  it('says what npm said when it could not install, and launches nothing', async () => {
    write('npm-fails', '');
    const { code, stdout, stderr } = await launch('start.mjs').ended;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/npm install failed \(exit code 1\)[^]*E404 no such package/);
  });

  it('installs once when two start at the same time, and passes a gate whose owner is dead', async () => {
    write('node_modules/.freehold-launcher.lock', JSON.stringify({ pid: 4_194_304, started: '1' }));
    const both = await Promise.all([launch('start.mjs').ended, launch('start.mjs').ended]);
    expect(both.map(({ code }) => code)).toEqual([3, 3]);
    expect(lines('npm.log')).toHaveLength(1);
    expect(existsSync(join(house, 'node_modules/.freehold-launcher.lock'))).toBe(false);
  });

  it('passes signals on, and what it launched notices when the launcher alone is killed', async () => {
    const asked = launch('start.mjs', ['--stay']);
    await until(() => asked.heard.stdout.includes('args'));
    asked.child.kill('SIGTERM');
    expect(await asked.ended).toMatchObject({ code: 7, stdout: expect.stringContaining('SIGTERM') });

    const killed = launch('start.mjs', ['--stay']);
    await until(() => killed.heard.stdout.includes('args'));
    killed.child.kill('SIGKILL');
    await until(() => existsSync(join(house, 'orphaned')));
  });

  it('ends when npm is killed, with or without mercy', async () => {
    write('package.json', '{"type":"module","scripts":{"start":"exec node scripts/start.mjs"}}');
    await launch('start.mjs').ended;
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const env = { ...process.env, DATABASE_URL: 'unused', RPC_URL: 'unused' };
      const npm = spawn('npm', ['start', '--silent', '--', '--stay'], {
        cwd: house,
        env,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let heard = '';
      npm.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString()));
      await until(() => heard.includes('args'));
      npm.kill(signal);
      await until(() => heard.includes('SIGTERM'));
    }
  });

  it('explains itself without installing anything', async () => {
    const { code, stdout } = await launch('start.mjs', ['--help']).ended;
    expect(code).toBe(0);
    expect(stdout).toContain('--batch FILE');
    expect(existsSync(join(house, 'npm.log'))).toBe(false);
  });
});

describe('npm run bench', () => {
  it('prints the result as JSON on its last line and fails below the floor', async () => {
    write(
      'test/bench/speed.mjs',
      'export const run = ({ args }) => ({ metrics: { perSecond: Number(args[0]) }, floor: { perSecond: 5 }, target: {}, pass: Number(args[0]) >= 5 });',
    );
    const fast = await launch('bench.mjs', ['speed', '9']).ended;
    expect(fast.code).toBe(0);
    expect(JSON.parse(fast.stdout.trim().split('\n').at(-1) ?? '')).toEqual({
      name: 'speed',
      metrics: { perSecond: 9 },
      floor: { perSecond: 5 },
      target: {},
      pass: true,
    });
    const slow = await launch('bench.mjs', ['speed', '4', '--json']).ended;
    expect(slow.code).toBe(1);
    expect(slow.stdout.trim().split('\n')).toHaveLength(1);
  });

  it('names what there is when asked for something else', async () => {
    write('test/bench/speed.mjs', '');
    const { code, stderr } = await launch('bench.mjs', ['sped']).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/No bench named "sped"[^]*Names: speed/);
  });
});
