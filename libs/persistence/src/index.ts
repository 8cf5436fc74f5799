export * from './database.ts';
export * from './database-errors.ts';
export * from './migrations.ts';
export * from './outbox.ts';
export * from './ledger/ledger.ts';
export * from './ledger/statement.ts';
