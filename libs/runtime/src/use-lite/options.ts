import { z } from 'zod';

/** The embedding engine has one model and nothing to choose. */
export const UseLiteOptions = z.strictObject({});
export type UseLiteOptions = z.input<typeof UseLiteOptions>;
