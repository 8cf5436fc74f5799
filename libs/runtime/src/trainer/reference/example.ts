/** One example as the network sees it: cut behind its last trained token, as nothing after that can matter. */
export interface Example {
  readonly tokens: Int32Array;
  /** 1 where the token is to be learnt from those before it. */
  readonly trained: Uint8Array;
}
