export * from './disk-object-store.ts';
