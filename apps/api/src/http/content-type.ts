import { ApiError, printable } from '@freehold/protocol';

const TYPE_CHARS_SHOWN = 100;

/** A body of another kind than the route reads: which one it reads, and which came. */
export function unsupportedContentType(expected: string, came: string | undefined): ApiError {
  const got = came === undefined || came === '' ? 'none came' : `'${printable(came, TYPE_CHARS_SHOWN)}' came`;
  return new ApiError({
    status: 415,
    type: 'invalid_request_error',
    code: 'unsupported_content_type',
    message: `Expected the content-type ${expected}; ${got}. Set the header to what the body is.`,
  });
}
