/**
 * The chat template: `<s>`, an optional `<|system|>` text, then `<|user|>` and `<|assistant|>` turns, answers ended by
 * `</s>`. One template for training, engines and markets; its text is part of the model digest.
 */

/** The same template in the form GGUF files carry. */
export const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>' + message['content'] }}" +
  "{% elif message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}{% else %}{{ '<|assistant|>' + message['content'] + eos_token }}" +
  "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

const ROLES = { system: '<|system|>', developer: '<|system|>', user: '<|user|>', assistant: '<|assistant|>' };

/** Control pieces written out by a user; a word joiner inside keeps them readable and makes them plain text. */
const CONTROL = /<(?=s>|\/s>|unk>|\|(?:system|user|assistant)\|>)/g;

/**
 * The prompt in pieces: control pieces and texts apart, for tokenizers that keep the two apart.
 *
 * System and developer messages are joined into one, which comes first, as in training.
 *
 * @param messages `[{ role, content }]`, roles system, developer, user, assistant; the last should be the user's.
 */
export function chatSegments(messages) {
  if (!Array.isArray(messages) || messages.length === 0) throw new Error('messages: expected at least one.');
  const instructions = [];
  const turns = [];
  for (const { role, content } of messages) {
    if (!Object.hasOwn(ROLES, role))
      throw new Error(`role: expected system, developer, user or assistant, got '${role}'.`);
    if (typeof content !== 'string') throw new Error(`content: expected text in the ${role} message.`);
    if (ROLES[role] === ROLES.system) instructions.push(content);
    else turns.push({ role, content });
  }
  const segments = [{ control: '<s>' }];
  if (instructions.length > 0) segments.push({ control: ROLES.system }, { text: instructions.join('\n') });
  for (const { role, content } of turns) {
    segments.push({ control: ROLES[role] }, { text: content });
    if (role === 'assistant') segments.push({ control: '</s>' });
  }
  segments.push({ control: ROLES.assistant });
  return segments;
}

/** The prompt as one string for tokenizers that read control pieces out of text; those of the users are defused. */
export function chatPrompt(messages) {
  return chatSegments(messages)
    .map((segment) => segment.control ?? segment.text.replace(CONTROL, '<\u2060'))
    .join('');
}

/** Token ids of the prompt by our own tokenizer; `segment.text` can never become a control piece. */
export function encodeChat(tokenizer, messages) {
  return chatSegments(messages).flatMap((segment) =>
    segment.control === undefined ? tokenizer.encode(segment.text) : [tokenizer.pieces.indexOf(segment.control)],
  );
}
