import { z } from 'zod';
import { EMBEDDING_INPUTS_MAX, TEXT_BYTES_MAX, type EmbeddingWork } from '../work.ts';
import { problemOf, refused, type Parsed } from './problem.ts';

const TokenIds = z
  .array(
    z
      .int()
      .min(0)
      .max(2 ** 32 - 1),
  )
  .min(1)
  .max(65_536);
const Input = z.union(
  [
    z.string().min(1).max(TEXT_BYTES_MAX),
    z.array(z.string().min(1).max(TEXT_BYTES_MAX)).min(1).max(EMBEDDING_INPUTS_MAX),
    TokenIds,
    z.array(TokenIds).min(1).max(EMBEDDING_INPUTS_MAX),
  ],
  `expected a text, at most ${EMBEDDING_INPUTS_MAX} texts, token ids, or lists of token ids; none of them empty`,
);

const Body = z.looseObject({
  model: z.string().min(1).max(128),
  input: Input,
  encoding_format: z.enum(['float', 'base64'], 'expected float or base64').nullish(),
  dimensions: z.int().min(1).max(16_384).nullish(),
});

export type VectorEncoding = 'float' | 'base64';

export interface EmbeddingRequest {
  readonly model: string;
  readonly work: EmbeddingWork;
  readonly encoding: VectorEncoding;
  /** What the requester wants vectors to have; served only when the model's vectors have just that. */
  readonly dimensions: number | null;
  readonly metadata: unknown;
  readonly ignored: readonly string[];
}

const SERVED: ReadonlySet<string> = new Set([...Object.keys(Body.shape), 'user', 'metadata']);

/** Parses the body of POST /v1/embeddings, or of such a row of a batch, into work. */
export function normaliseEmbedding(body: unknown): Parsed<EmbeddingRequest> {
  const parsed = Body.safeParse(body);
  if (!parsed.success) return { ok: false, problem: problemOf(parsed.error) };
  const { model, input, encoding_format: encoding, dimensions } = parsed.data;
  const inputs = inputsOf(input);
  if (
    inputs.reduce((bytes, text) => bytes + (typeof text === 'string' ? Buffer.byteLength(text) : text.length * 4), 0) >
    TEXT_BYTES_MAX
  ) {
    return refused('string_above_max_length', `'input' holds more than ${TEXT_BYTES_MAX} bytes.`, 'input');
  }
  return {
    ok: true,
    value: {
      model,
      work: { kind: 'embedding', inputs },
      encoding: encoding ?? 'float',
      dimensions: dimensions ?? null,
      metadata: parsed.data['metadata'] ?? null,
      ignored: Object.keys(parsed.data)
        .filter((key) => !SERVED.has(key) && parsed.data[key] !== null)
        .map((key) => key.replace(/[^\w.-]/g, '?').slice(0, 64))
        .slice(0, 32),
    },
  };
}

function inputsOf(input: z.infer<typeof Input>): EmbeddingWork['inputs'] {
  if (typeof input === 'string') return [input];
  return isTokenIds(input) ? [input] : input;
}

function isTokenIds(input: string[] | number[] | number[][]): input is number[] {
  return typeof input[0] === 'number';
}
