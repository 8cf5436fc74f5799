/** What went wrong, as data: `code` is stable and documented, the other keys are the values that disagree. */
export interface ErrorDetail {
  readonly code: string;
  readonly [key: string]: unknown;
}

/** A broken rule of the market. The text is for people; programs read `detail.code`. */
export class DomainError extends Error {
  readonly detail: ErrorDetail;

  constructor(detail: ErrorDetail, message?: string) {
    super(message ?? describeDetail(detail));
    this.name = 'DomainError';
    this.detail = detail;
  }
}

function describeDetail(detail: ErrorDetail): string {
  const values = Object.entries(detail)
    .filter(([key]) => key !== 'code')
    .map(([key, value]) => `${key}=${String(value)}`);
  return values.length === 0 ? detail.code : `${detail.code}: ${values.join(', ')}`;
}
