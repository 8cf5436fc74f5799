import { z } from 'zod';

const Rate = z.string().regex(/^\d{1,18}$/);

/** What hosted APIs ask for comparable work: dated, with where it was read. Synchronous list prices, without batch discounts. */
export const ListPrices = z.strictObject({
  v: z.literal(1),
  prices: z
    .array(
      z.strictObject({
        kind: z.enum(['chat', 'embedding']),
        provider: z.string().min(1).max(64),
        model: z.string().min(1).max(128),
        asOf: z.iso.date(),
        source: z.url({ protocol: /^https$/ }),
        /** Millionths of a US dollar per million units. */
        microUsdPerMillion: z.record(z.string().regex(/^(input|output|embedding)Token$/), Rate),
      }),
    )
    .max(64),
});
export type ListPrices = z.infer<typeof ListPrices>;
