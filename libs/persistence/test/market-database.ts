import { createHash } from 'node:crypto';
import { templateDatabase, temporaryDatabase, testPostgres } from '@freehold/wiring/embedded';
import { type Database, type DatabaseOptions, migrate, migrationFiles, openDatabase } from '../src/index.ts';

export interface MarketDatabase {
  readonly database: Database;
  readonly url: string;
  close(): Promise<void>;
}

/** The same database, with the number of its statements outside of transactions and of its transactions. */
export function countingQueries(real: Database): { readonly database: Database; readonly statements: number } {
  let statements = 0;
  const database = new Proxy(real, {
    get: (target, member) => {
      const value: unknown = Reflect.get(target, member, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (member === 'query' || member === 'transaction') statements += 1;
        return Reflect.apply(value, target, args);
      };
    },
  });
  return {
    database,
    get statements() {
      return statements;
    },
  };
}

/** An empty, migrated database of its own on the test run's server: copied from a template, so the second one takes ~50 ms. */
export async function marketDatabase(options: Partial<DatabaseOptions> = {}): Promise<MarketDatabase> {
  const server = await testPostgres();
  const sums = migrationFiles().map(({ sha256 }) => sha256);
  const name = `market_${createHash('sha256').update(sums.join()).digest('hex').slice(0, 16)}`;
  const template = await templateDatabase(server.url, name, async (url) => {
    const database = await openDatabase({ url });
    await migrate(database);
    await database.close();
  });
  const copy = await temporaryDatabase(server.url, template);
  const database = await openDatabase({ url: copy.url, ...options });
  return {
    database,
    url: copy.url,
    close: async () => {
      await database.close();
      await copy.drop();
      await server.stop();
    },
  };
}
