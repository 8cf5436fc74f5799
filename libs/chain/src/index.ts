export * from './curve.ts';
export * from './signer.ts';
export * from './signing-pool.ts';
export { RpcBlocks } from './blocks.ts';
export * from './deploy.ts';
export * from './escrow-client.ts';
export * from './exit-client.ts';
export * from './exit-wallet.ts';
export * from './rpc-chain-sender.ts';
