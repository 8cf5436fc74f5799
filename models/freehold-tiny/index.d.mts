export interface ChatMessage {
  readonly role: 'system' | 'developer' | 'user' | 'assistant';
  readonly content: string;
}

export interface PromptSegment {
  /** A control piece such as `<|user|>`; exactly one of the two is set. */
  readonly control?: string;
  /** Plain text, in which nothing is a control piece. */
  readonly text?: string;
}

export interface FileManifest {
  readonly sha256: string;
  readonly bytes: number;
}

export interface ModelConfig {
  readonly vocab: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly ffn: number;
  readonly context: number;
  readonly ropeBase: number;
  readonly normEpsilon: number;
}

export type Quantisation = 'F32' | 'F16' | 'Q8_0';

export interface ModelManifest {
  readonly model: string;
  readonly digest: string;
  readonly parameters: number;
  readonly config: ModelConfig;
  readonly training: { readonly seed: number; readonly step: number; readonly steps: number };
  readonly chatTemplate: { readonly sha256: string };
  readonly files: Readonly<Record<string, FileManifest>>;
  readonly gguf: Readonly<Record<Quantisation, FileManifest & { readonly file: string }>>;
}

export interface Item {
  readonly family: string;
  /** True where the request is phrased as no training item was. */
  readonly heldWording: boolean;
  readonly messages: readonly ChatMessage[];
  readonly expected: string;
}

export type WordingSide = 'trained' | 'held' | 'both';

export interface Tensor {
  readonly name: string;
  /** Rows first, as in safetensors. */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface WeightTensor extends Tensor {
  readonly dtype: 'F16' | 'F32';
}

export interface Tokenizer {
  readonly pieces: readonly string[];
  readonly scores: readonly number[];
  encode(text: string): number[];
  decode(ids: Iterable<number>): string;
}

export interface GgufFile {
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
}

export interface AdapterPair {
  /** The adapted tensor, such as `blk.0.attn_q.weight`. */
  readonly name: string;
  readonly a: { readonly shape: readonly [rank: number, columns: number]; readonly data: Float32Array };
  readonly b: { readonly shape: readonly [rows: number, rank: number]; readonly data: Float32Array };
}

export declare class ModelFileError extends Error {}

export declare const MODEL_ID: string;
export declare const CONTEXT_TOKENS: number;
export declare const QUANTISATIONS: readonly Quantisation[];
export declare const WEIGHTS_FILE: string;
export declare const TOKENIZER_FILE: string;
export declare const CHAT_TEMPLATE: string;
export declare const FAMILY_NAMES: readonly string[];
export declare const SURE_FAMILIES: readonly string[];
export declare const LEFT_OUT_NAMES: readonly string[];
export declare const REFUSAL: string;
export declare const manifest: ModelManifest;
export declare const modelDigest: string;

export declare function digestOf(weights: Uint8Array, tokenizerBytes: Uint8Array, template?: string): string;
export declare function tokenizer(): Tokenizer;
export declare function chatPrompt(messages: readonly ChatMessage[]): string;
export declare function chatSegments(messages: readonly ChatMessage[]): PromptSegment[];
export declare function chatTokens(messages: readonly ChatMessage[]): number[];
export declare function readWeights(): {
  readonly config: ModelConfig;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: readonly WeightTensor[];
};
export declare function makeGguf(quantisation: Quantisation): Buffer;
export declare function ensureGguf(options: {
  readonly quantisation?: Quantisation;
  readonly dir: string;
}): Promise<GgufFile>;
export declare function heldOutItems(options: {
  readonly seed?: number | string;
  readonly count: number;
  readonly families?: readonly string[];
  readonly wordings?: WordingSide;
}): Item[];
export declare function teachingItems(options: {
  readonly seed?: number | string;
  readonly count: number;
  readonly families?: readonly string[];
  readonly wordings?: WordingSide;
}): Item[];
export declare function loraGguf(options: {
  readonly name?: string;
  readonly alpha: number;
  readonly pairs: readonly AdapterPair[];
  readonly type?: 'F32' | 'F16';
}): Buffer;
export declare function readSafetensors(bytes: Buffer): {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: readonly WeightTensor[];
};
