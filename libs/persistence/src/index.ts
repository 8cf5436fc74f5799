export * from './database.ts';
export * from './database-errors.ts';
export * from './migrations.ts';
export * from './outbox.ts';
