import { giveUp } from './progress.mjs';

/** The oldest Node with `require(esm)` on by default, which NestJS 12 and libp2p 3 need. Keep in step with package.json. */
const NODE_MIN = [20, 19];

/** Says early, and in words, what would fail later in some package's depths. Needs no dependency. */
export function checkMachine() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
    giveUp(
      `Freehold needs Node ${NODE_MIN.join('.')} or newer; this is ${process.versions.node} (${process.execPath}).`,
    );
  }
  if (process.platform === 'win32') giveUp('Freehold does not run on Windows itself. Use WSL 2 or a Linux container.');
}

/**
 * The embedded services are Linux programs for x64 with glibc; elsewhere all of them have to come from outside.
 *
 * @param {NodeJS.ProcessEnv} environment
 */
export function checkEmbeddedServices(environment) {
  const missing = ['DATABASE_URL', 'RPC_URL'].filter((name) => !environment[name]);
  if (missing.length === 0) return;
  /** @type {{ header?: { glibcVersionRuntime?: string } }} */
  const report = process.report?.getReport() ?? {};
  const glibc = report.header?.glibcVersionRuntime;
  if (process.platform === 'linux' && process.arch === 'x64' && glibc !== undefined) return;
  const here = `${process.platform}-${process.arch}${process.platform === 'linux' && glibc === undefined ? ' without glibc' : ''}`;
  giveUp(
    `The embedded PostgreSQL and chain come for linux-x64 with glibc; this is ${here}.\n` +
      `Point ${missing.join(' and ')} to services of your own, e.g.\n` +
      `  DATABASE_URL=postgres://user:password@localhost/freehold RPC_URL=http://localhost:8545 npm start`,
  );
}
