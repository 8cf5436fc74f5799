export * from './signer.ts';
export * from './signing-pool.ts';
export { RpcBlocks } from './blocks.ts';
