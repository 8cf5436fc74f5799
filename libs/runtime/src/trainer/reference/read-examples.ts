import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { Template } from '@huggingface/jinja';
import { z } from 'zod';
import { TrainerError } from '@freehold/market/trainer';
import type { Base } from './base.ts';
import type { Example } from './example.ts';

/** OpenAI's limit of an uploaded file. */
const DATA_BYTES_MAX = 512 * 2 ** 20;
const EXAMPLES_MAX = 1_000_000;

const Message = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.string(),
  /** OpenAI's way of not training on an answer. */
  weight: z.union([z.literal(0), z.literal(1)]).optional(),
});
type Message = z.infer<typeof Message>;
const Line = z.object({ messages: z.array(Message).min(1).max(256) });

export interface Examples {
  readonly sha256: string;
  readonly examples: readonly Example[];
}

/**
 * Reads JSON lines of chats. What is trained on: the answers of the assistant and the mark that ends each.
 *
 * @throws {TrainerError} With the line of the first example that is none, or that is longer than the base's context.
 */
export async function readExamples(path: string, base: Base): Promise<Examples> {
  const bytes = await readBounded(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const encode = exampleEncoder(base);
  const examples: Example[] = [];
  bytes
    .toString('utf8')
    .split('\n')
    .forEach((text, at) => {
      if (text.trim() === '') return;
      if (examples.length === EXAMPLES_MAX) throw invalid(`More than ${EXAMPLES_MAX} examples.`, at + 1);
      examples.push(encode(messagesOf(text, at + 1), at + 1));
    });
  if (examples.length === 0) throw invalid('The file holds no example: expected JSON lines {"messages":[…]}.', 1);
  return { sha256, examples };
}

async function readBounded(path: string): Promise<Buffer> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      if (size > DATA_BYTES_MAX) throw invalid(`The file has ${size} bytes; at most ${DATA_BYTES_MAX} are read.`, 1);
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof TrainerError) throw error;
    throw new TrainerError('data_unreadable', `The data cannot be read: ${String(error)}`, true);
  }
}

function messagesOf(text: string, line: number): Message[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid('Expected a JSON object {"messages":[…]}, got no JSON.', line);
  }
  const parsed = Line.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not an example'}`, line);
  }
  const { messages } = parsed.data;
  if (!messages.some(({ role, weight, content }) => role === 'assistant' && weight !== 0 && content !== ''))
    throw invalid('No message of the assistant to learn from.', line);
  return messages;
}

/** System messages stand in front, joined, as the engine's prompts have them. */
function ordered(messages: readonly Message[]): Message[] {
  const isSystem = ({ role }: Message): boolean => role === 'system' || role === 'developer';
  const system = messages.filter(isSystem).map(({ content }) => content);
  const rest = messages.filter((message) => !isSystem(message));
  return system.length === 0 ? rest : [{ role: 'system', content: system.join('\n') }, ...rest];
}

function exampleEncoder(base: Base): (messages: readonly Message[], line: number) => Example {
  const { tokenizer, llama } = base;
  const template = new Template(base.chatTemplate);
  const placeholder = (at: number): string => `\ue000${at}\ue001`;
  // Over placeholders a text follows from the roles alone, and most files are of one kind of chat.
  let rendered: { readonly roles: string; readonly text: string } | undefined;
  const render = (turns: readonly Message[]): string => {
    const roles = turns.map(({ role }) => role).join();
    if (rendered?.roles === roles) return rendered.text;
    const text = template.render({
      messages: turns.map(({ role }, at) => ({ role, content: placeholder(at) })),
      add_generation_prompt: false,
      bos_token: tokenizer.bos,
      eos_token: tokenizer.eos,
    });
    rendered = { roles, text };
    return text;
  };
  return (messages, line) => {
    const turns = ordered(messages);
    refuseHopeless(turns, tokenizer.pieceCharsMax, llama.config.contextTokens, line);
    // Rendered over placeholders: a message that spells a mark must not become one.
    const text = render(turns);
    const tokens: number[] = [];
    const trained: number[] = [];
    const push = (ids: readonly number[], flag: (at: number) => boolean): void => {
      ids.forEach((_, at) => trained.push(flag(at) ? 1 : 0));
      tokens.push(...ids);
    };
    let rest = text;
    let learning = false;
    const pushMarks = (marks: string): void => {
      const ids = tokenizer.encodeMarks(marks);
      push(ids, (at) => learning && at === 0 && tokenizer.isControl(ids[0] ?? -1));
    };
    turns.forEach(({ role, content, weight }, at) => {
      const [before, after] = rest.split(placeholder(at));
      if (before === undefined || after === undefined)
        throw invalid(`The base's chat template leaves message ${at + 1} (${role}) out.`, line);
      pushMarks(before);
      learning = role === 'assistant' && weight !== 0;
      push(tokenizer.encode(content), () => learning);
      rest = after;
    });
    pushMarks(rest);
    return cut(tokens, trained, llama.config.contextTokens, line);
  };
}

/** Cutting a text into tokens takes the square of its length: not begun for one that cannot fit whatever its tokens are. */
function refuseHopeless(turns: readonly Message[], pieceCharsMax: number, contextTokens: number, line: number): void {
  const chars = turns.reduce((sum, { content }) => sum + content.length, 0);
  const least = Math.ceil(chars / pieceCharsMax);
  if (least > contextTokens) throw tooLong(`at least ${least}`, contextTokens, line);
}

function tooLong(tokens: string, contextTokens: number, line: number): TrainerError {
  const message = `Line ${line}: the example has ${tokens} tokens, the base's context ${contextTokens}: shorten or drop it.`;
  return new TrainerError('example_too_long', message, false, { line });
}

function cut(tokens: readonly number[], trained: readonly number[], contextTokens: number, line: number): Example {
  if (tokens.length > contextTokens) throw tooLong(String(tokens.length), contextTokens, line);
  const end = trained.lastIndexOf(1) + 1;
  if (end < 2) throw invalid('Nothing is left to learn from.', line);
  return { tokens: Int32Array.from(tokens.slice(0, end)), trained: Uint8Array.from(trained.slice(0, end)) };
}

function invalid(message: string, line: number): TrainerError {
  return new TrainerError('data_invalid', `Line ${line}: ${message}`, false, { line });
}
