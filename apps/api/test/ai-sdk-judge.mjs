// The AI SDK cannot be loaded inside jest's module loader, so it judges from a process of its own: node ai-sdk-judge.mjs BASE_URL KEY
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateText, streamText } from 'ai';

const [baseURL, apiKey] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: 'freehold', apiKey, baseURL, includeUsage: true });
const asked = { model: provider('freehold-tiny'), prompt: 'one two', maxRetries: 0 };
const whole = await generateText(asked);
const stream = streamText(asked);
const streamed = await stream.text;
const { outputTokens } = await stream.usage;
const { embeddings } = await embedMany({
  model: provider.embeddingModel('use-lite'),
  values: ['abcd', 'ab'],
  maxRetries: 0,
});
process.stdout.write(
  JSON.stringify({
    text: whole.text,
    finish: whole.finishReason,
    total: whole.usage.totalTokens,
    streamed,
    outputTokens,
    first: embeddings.map((vector) => vector[0]),
  }),
);
