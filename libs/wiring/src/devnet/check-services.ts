import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { rpcUrls } from '@freehold/chain';
import { ask } from './redis-line.ts';
import { databaseFault, hostOf, networkFault, ServiceFault, shownUrl, type ServiceVariable } from './service-fault.ts';
import type { ServiceUrls } from './service-urls.ts';

/** As long as a person waits for a mistake to be pointed out; services on the way up are not waited for. */
const ANSWER_MS = 5_000;
/** What the migrations use. */
const POSTGRES_MIN = 150_000;
const REDIS_MIN = [6, 2] as const;

/**
 * Asks every service that was given, before anything is started: a wrong address or password is then one line, not what
 * becomes of it in some process's depths.
 *
 * @throws {ServiceFault} About the first that does not do.
 */
export async function checkServices(urls: ServiceUrls, dataDir: string): Promise<void> {
  await Promise.all([
    urls.databaseUrl === undefined ? null : checkDatabase(urls.databaseUrl),
    urls.redisUrl === undefined ? null : checkRedis(urls.redisUrl),
    // Every one of several has to answer at the start: fewer than all may suffice only later.
    ...rpcUrls(urls.rpcUrl ?? '').map((url) => checkChain(url, dataDir)),
  ]);
}

function urlOf(variable: ServiceVariable, text: string, protocols: readonly string[], example: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && protocols.includes(url.protocol)) return url;
  const came = url === null ? 'it is no URL' : `its protocol is ${url.protocol}//`;
  throw new ServiceFault(variable, 'to read it', came, `Expected such as ${example}.`);
}

function unset(variable: ServiceVariable, instead: string): string {
  return `, correct ${variable}, or unset it to use ${instead}.`;
}

async function checkDatabase(text: string): Promise<void> {
  urlOf('DATABASE_URL', text, ['postgres:', 'postgresql:'], 'postgres://user:password@localhost:5432/freehold');
  const tried = `to connect to ${shownUrl(text)}`;
  const rest = unset('DATABASE_URL', 'the embedded PostgreSQL');
  const pg = await import('pg');
  const client = new pg.default.Client({ connectionString: text, connectionTimeoutMillis: ANSWER_MS });
  // A connection that breaks after its answer is no concern of this question.
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string; may: boolean }>(
      `SELECT current_setting('server_version_num') AS version, has_database_privilege(current_database(), 'CREATE') AS may`,
    );
    if (Number(rows[0]?.version) < POSTGRES_MIN)
      throw new ServiceFault(
        'DATABASE_URL',
        tried,
        `it is PostgreSQL ${rows[0]?.version}, older than 15`,
        `Upgrade it${rest}`,
      );
    if (rows[0]?.may !== true)
      throw new ServiceFault(
        'DATABASE_URL',
        tried,
        'its user may not create schemas in that database',
        `GRANT CREATE ON DATABASE to it${rest}`,
      );
  } catch (error) {
    if (error instanceof ServiceFault) throw error;
    throw databaseFault(text, error, rest);
  } finally {
    await client.end().catch(() => undefined); // it may never have been open
  }
}

async function checkRedis(text: string): Promise<void> {
  const url = urlOf('REDIS_URL', text, ['redis:', 'rediss:'], 'redis://:password@localhost:6379/0');
  const tried = `to reach ${shownUrl(text)}`;
  const rest = unset('REDIS_URL', 'the queue in PostgreSQL');
  const fault = (came: string, advice: string): ServiceFault =>
    new ServiceFault('REDIS_URL', tried, came, advice + rest);
  const commands = [
    ...(url.password === ''
      ? []
      : [
          [
            'AUTH',
            ...(url.username === '' ? [] : [decodeURIComponent(url.username)]),
            decodeURIComponent(url.password),
          ],
        ]),
    ...(url.pathname.length > 1 ? [['SELECT', url.pathname.slice(1)]] : []),
    ['INFO', 'server'],
  ];
  let answers: string[];
  try {
    answers = await ask(url, commands, ANSWER_MS);
  } catch (error) {
    const { came, advice } = networkFault(error, hostOf(url, 6_379)) ?? {
      came: error instanceof Error ? error.message : String(error),
      advice: 'Check that a Redis listens there',
    };
    throw fault(came, advice);
  }
  const refused = answers.find((answer) => answer.startsWith('-'));
  if (refused !== undefined)
    throw fault(
      `it answered '${refused.slice(1, 120)}'`,
      /NOAUTH|WRONGPASS|invalid password|without any password/i.test(refused)
        ? 'Give the right password in the URL'
        : 'Check the URL',
    );
  const version = /redis_version:(\d+)\.(\d+)/.exec(answers.at(-1) ?? '');
  if (version === null) throw fault('what answered is no Redis', 'Check host and port');
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major < REDIS_MIN[0] || (major === REDIS_MIN[0] && minor < REDIS_MIN[1]))
    throw fault(`it is Redis ${major}.${minor}, older than ${REDIS_MIN.join('.')}`, 'Upgrade it');
}

async function checkChain(text: string, dataDir: string): Promise<void> {
  const url = urlOf('RPC_URL', text, ['http:', 'https:'], 'http://localhost:8545');
  const tried = `eth_chainId at ${shownUrl(text)}`;
  const rest = unset('RPC_URL', 'the embedded chain');
  const fault = (came: string, advice: string): ServiceFault => new ServiceFault('RPC_URL', tried, came, advice + rest);
  let chainId: number | null;
  let isDevelopment: boolean;
  try {
    chainId = idOf(await rpc(text, 'eth_chainId'));
    isDevelopment = chainId !== null && (await rpc(text, 'anvil_nodeInfo')) !== null;
  } catch (error) {
    const { came, advice } = networkFault(error, hostOf(url, url.protocol === 'https:' ? 443 : 80)) ?? {
      came: error instanceof Error ? error.message : String(error),
      advice: 'Check the endpoint',
    };
    throw fault(came, advice);
  }
  if (chainId === null) throw fault('what answered is no Ethereum endpoint', 'Check host, port and path');
  const known = chainOfRecord(dataDir);
  if (known !== null && known !== chainId)
    throw fault(
      `it is chain ${chainId}, and the books in ${dataDir} were kept on chain ${known}`,
      'Start the old chain again, take --fresh or another --data',
    );
  if (!isDevelopment)
    throw fault(
      `it is chain ${chainId} and no anvil, so it gives out no play money`,
      'A market over a real chain is set up as docs/operating/configuration.md says; for this one start anvil',
    );
}

/** The result, or null when the endpoint says that it has none. Throws when there is no endpoint. */
async function rpc(url: string, method: string): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [] }),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const text = await response.text();
  if (response.status === 401 || response.status === 403)
    throw new Error(`it answered with status ${response.status}: the key in the URL is refused`);
  try {
    return (JSON.parse(text) as { result?: unknown } | null)?.result ?? null;
  } catch {
    // No JSON: somebody else's server.
    return null;
  }
}

function idOf(result: unknown): number | null {
  return typeof result === 'string' && /^0x[0-9a-f]+$/i.test(result) ? Number(result) : null;
}

function chainOfRecord(dataDir: string): number | null {
  const file = join(dataDir, 'chain', 'contracts.json');
  if (!existsSync(file)) return null;
  const { chainId } = JSON.parse(readFileSync(file, 'utf8')) as { chainId?: unknown };
  return typeof chainId === 'number' ? chainId : null;
}
