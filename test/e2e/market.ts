import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The first line of `npm start -- --json`: everything an outsider needs. */
export interface Ready {
  readonly ready: true;
  readonly baseURL: string;
  readonly apiKey: string;
  readonly rpcUrl: string;
  readonly databaseUrl: string;
  readonly contracts: {
    readonly chainId: number;
    readonly token: string;
    readonly escrow: string;
    readonly book: string;
  };
  readonly dataDir: string;
}

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Longer than the launcher gives its children. */
const STOP_TIMEOUT_MS = 45_000;
/** Some minutes of a scheduler's warnings. */
const LOG_CHARS = 6_000;
const DEVNET = join(ROOT, 'apps/devnet/dist/main.js');
/** Against hanging only: the whole main job on a busy machine stays well below. */
const LINE_TIMEOUT_MS = 400_000;

/** The whole market as an outsider sees it: a command, its JSON lines, its exit code. Nothing of ours is imported. */
export class Market {
  readonly dataDir: string;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting: ((line: string) => void)[] = [];
  readonly exited: Promise<number | null>;
  stderr = '';

  private constructor(child: ChildProcess, dataDir: string) {
    this.#child = child;
    this.dataDir = dataDir;
    this.exited = new Promise((resolve) => child.once('exit', resolve));
    if (child.stdout === null || child.stderr === null) throw new Error('the market has no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#lines.push(line);
      else waiting(line);
    });
    child.stderr.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  static start(
    flags: readonly string[] = [],
    dataDir = mkdtempSync(join(tmpdir(), 'freehold-e2e-')),
    environment: Readonly<Record<string, string>> = {},
  ): Market {
    const args = [DEVNET, '--json', '--port', '0', '--data', dataDir, ...flags];
    const env = { ...process.env, ...environment };
    return new Market(spawn(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] }), dataDir);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async line<T>(): Promise<T> {
    const ready = this.#lines.shift();
    if (ready !== undefined) return JSON.parse(ready) as T;
    const text = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new Error(`no line within ${LINE_TIMEOUT_MS / 1_000} s. Standard error:\n${this.stderr.slice(-4_000)}`),
          ),
        LINE_TIMEOUT_MS,
      );
      this.#waiting.push((line) => {
        clearTimeout(timer);
        resolve(line);
      });
      void this.exited.then((code) => {
        clearTimeout(timer);
        reject(
          new Error(
            `the market ended with ${String(code)} before its next line. Standard error:\n${this.stderr.slice(-4_000)}\nThe scheduler's last words:\n${this.#lastWords('scheduler')}`,
          ),
        );
      });
    });
    return JSON.parse(text) as T;
  }

  /** The folder is gone when somebody reads of a failure, so the failure carries the end of the log. */
  #lastWords(name: string): string {
    const log = join(this.dataDir, 'logs', `${name}.log`);
    return existsSync(log) ? readFileSync(log, 'utf8').slice(-LOG_CHARS) : 'none';
  }

  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  /** Ctrl-C, and the axe for a launcher that does not hear it: nothing may outlive a failed test. */
  async stop(): Promise<void> {
    this.interrupt();
    const axe = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(axe);
  }

  /** Processes whose command line names this market's data directory. */
  processes(): string[] {
    const { stdout } = spawnSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' });
    return stdout.split('\n').filter((line) => line.includes(this.dataDir) && !line.includes('ps -eo'));
  }

  remove(): void {
    rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}
