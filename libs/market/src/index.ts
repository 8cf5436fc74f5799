export * from './ports/engine.ts';
export * from './ports/provider-link.ts';
export * from './ports/object-store.ts';
export * from './ports/queue.ts';
export * from './ports/outbox.ts';
export * from './ports/lease-store.ts';
export * from './ports/signer.ts';
export * from './ports/blocks.ts';
