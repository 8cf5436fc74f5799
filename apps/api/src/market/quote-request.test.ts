import { expect, it } from '@jest/globals';
import { parseQuoteRequest } from './quote-request.ts';

it('takes metadata that is null for none, as a batch does', () => {
  const { terms } = parseQuoteRequest({ input_file_id: 'file-1', metadata: null });
  expect(terms.metadata).toEqual({});
  const rows = { model: 'm', input_tokens: 1, metadata: null, verify: 'off' };
  expect(parseQuoteRequest(rows).terms).toMatchObject({ metadata: { verify: 'off' }, terms: { verify: 'off' } });
});
