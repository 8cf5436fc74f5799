import { z } from 'zod';
import { isTooDeep, JSON_DEPTH_MAX } from '../json-depth.ts';
import { CHAT_MESSAGES_MAX, type ChatMessage } from '../work.ts';
import { isStorable, problemOf, refused, type Parsed } from './problem.ts';

/** OpenAI asks for ten examples at least; a million would take weeks on the machines that are here. */
export const TRAINING_EXAMPLES_MIN = 10;
export const TRAINING_EXAMPLES_MAX = 100_000;
export const TRAINING_BYTES_MAX = 100 * 1_048_576;

const Line = z.looseObject({
  messages: z
    .array(
      z.looseObject({
        role: z.enum(['system', 'developer', 'user', 'assistant']),
        content: z
          .string('expected text')
          .min(1, 'expected some text')
          .refine(isStorable, 'expected text without NUL and without broken surrogate pairs'),
        weight: z.union([z.literal(0), z.literal(1)]).optional(),
      }),
    )
    .min(2, 'expected at least a user message and the assistant’s answer to it')
    .max(CHAT_MESSAGES_MAX),
});

export interface TrainingExample {
  readonly messages: readonly ChatMessage[];
  /** Bytes of all messages: no tokenizer makes more tokens of them. */
  readonly textBytes: number;
}

/** One line of a training file: a chat that ends with the answer to be learnt. */
export function parseTrainingLine(text: string): Parsed<TrainingExample> {
  if (isTooDeep(text))
    return refused('invalid_json_line', `This line nests deeper than ${JSON_DEPTH_MAX} levels: expected a chat.`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser quotes the requester's data: kept out of messages and logs.
    return refused('invalid_json_line', 'This line is not valid JSON: expected {"messages": [...]} on each line.');
  }
  const line = Line.safeParse(json);
  if (!line.success) return { ok: false, problem: problemOf(line.error) };
  const { messages } = line.data;
  if (messages.some((message) => message['tool_calls'] !== undefined || message['function_call'] !== undefined))
    return refused('unsupported_value', 'Calls of tools are not learnt here: expected text alone.', 'messages');
  if (!messages.some((message) => message.role === 'user'))
    return refused('invalid_value', "Expected a message of role 'user'.", 'messages');
  if (messages.every(({ role, weight }) => role !== 'assistant' || weight === 0))
    return refused('invalid_value', 'Every answer has a weight of 0: there is nothing to learn.', 'messages');
  if (messages.at(-1)?.role !== 'assistant')
    return refused('invalid_value', "The last message must be the assistant's: it is what is learnt.", 'messages');
  return {
    ok: true,
    value: {
      messages: messages.map(({ role, content }) => ({ role: role === 'developer' ? 'system' : role, content })),
      textBytes: messages.reduce((bytes, { content }) => bytes + Buffer.byteLength(content), 0),
    },
  };
}
