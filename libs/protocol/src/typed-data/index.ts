export * from './types.ts';
export * from './lane-words.ts';
