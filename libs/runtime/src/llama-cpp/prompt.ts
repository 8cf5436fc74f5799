import { Template } from '@huggingface/jinja';
import type { ChatMessage } from '@freehold/protocol';
import type { ChatTemplate } from './options.ts';

/** A run of prompt text: marks may be special tokens, content never is, so no message can speak for another role. */
export interface PromptPart {
  readonly text: string;
  readonly special: boolean;
}

/** The two texts of a model file that its own template may use. */
export interface TemplateWords {
  readonly jinja: string | undefined;
  readonly bos: string;
  readonly eos: string;
}

/** Cuts a conversation into marks and content, ending where the assistant is to go on. */
export function promptParts(
  messages: readonly ChatMessage[],
  template: ChatTemplate,
  words: TemplateWords,
): PromptPart[] {
  const parts = template.kind === 'turns' ? turns(messages, template) : rendered(messages, words);
  return parts.filter((part) => part.text !== '');
}

/** System messages come first, joined, wherever they stood: models of fixed marks know them at the front only. */
function turns(messages: readonly ChatMessage[], template: Extract<ChatTemplate, { kind: 'turns' }>): PromptPart[] {
  const system = messages.filter(({ role }) => role === 'system').map(({ content }) => content);
  const rest = messages.filter(({ role }) => role !== 'system');
  const ordered = system.length === 0 ? rest : [{ role: 'system' as const, content: system.join('\n') }, ...rest];
  const parts: PromptPart[] = [{ text: template.begin, special: true }];
  for (const { role, content } of ordered) {
    parts.push({ text: template.before[role], special: true });
    parts.push({ text: content, special: false });
    parts.push({ text: template.after[role], special: true });
  }
  parts.push({ text: template.before.assistant, special: true });
  return joined(parts);
}

/**
 * The file's own Jinja template, rendered over placeholders instead of the messages' text.
 *
 * Rendering the text itself and tokenising all of it with special tokens on would let a message that spells a mark close its
 * own turn. Placeholders are private-use characters, which no message needs and any message may still contain.
 */
function rendered(messages: readonly ChatMessage[], words: TemplateWords): PromptPart[] {
  if (words.jinja === undefined)
    throw new TypeError('The model file carries no chat template: name one in the options (`kind: "turns"`).');
  const placeholder = (at: number): string => `\ue000${at}\ue001`;
  const text = new Template(words.jinja).render({
    messages: messages.map(({ role }, at) => ({ role, content: placeholder(at) })),
    add_generation_prompt: true,
    bos_token: words.bos,
    eos_token: words.eos,
  });
  const parts: PromptPart[] = [];
  let rest = text;
  messages.forEach(({ content }, at) => {
    const [before, ...after] = rest.split(placeholder(at));
    // Some templates drop or move a message (a system prompt, say): what they leave out is left out.
    if (before === undefined || after.length !== 1) return;
    parts.push({ text: before, special: true }, { text: content, special: false });
    rest = after[0] ?? '';
  });
  parts.push({ text: rest, special: true });
  return parts;
}

/** Neighbouring marks as one text, as a tokeniser would see the whole prompt. */
function joined(parts: readonly PromptPart[]): PromptPart[] {
  const out: PromptPart[] = [];
  for (const part of parts) {
    const last = out.at(-1);
    if (part.text === '') continue;
    if (last?.special === true && part.special) out[out.length - 1] = { text: last.text + part.text, special: true };
    else out.push(part);
  }
  return out;
}
