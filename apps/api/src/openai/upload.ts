import { PassThrough } from 'node:stream';
import busboy from 'busboy';
import type { Request } from 'express';
import { invalidRequest, type ApiError } from '@freehold/protocol';
import { unsupportedContentType } from '../http/content-type.ts';

/** One part more than a form ever needs; each of them small. */
const FIELDS_MAX = 8;
const FIELD_BYTES_MAX = 1_024;
const FILENAME_CHARS_MAX = 255;

export interface ReceivedForm {
  readonly filename: string;
  /** Ends only when the whole form was read, so that fields behind the file are known by then. */
  readonly body: AsyncIterable<Uint8Array>;
  readonly fields: () => Readonly<Record<string, string>>;
}

/**
 * Reads a multipart form with one file in it, without ever holding the file. Resolves at the file's first byte.
 *
 * @param onRead Called before the first byte is read, when nothing speaks against the body any more.
 */
export async function receiveForm(request: Request, onRead: () => void = () => undefined): Promise<ReceivedForm> {
  const parser = startParser(request);
  onRead();
  const fields: Record<string, string> = {};
  const content = new PassThrough({ highWaterMark: 256 * 1_024 });
  let filename: string | null = null;
  const found = new Promise<string>((resolve, reject) => {
    const fail = (error: Error): void => {
      content.destroy(error);
      reject(error);
      request.unpipe(parser);
      request.resume();
    };
    parser.on('field', (name, value, info) => {
      if (info.valueTruncated || info.nameTruncated)
        return fail(
          invalidRequest(
            'invalid_value',
            `The form field '${name.slice(0, 40)}' is longer than ${FIELD_BYTES_MAX} bytes.`,
            name.slice(0, 40),
          ),
        );
      fields[name] = value;
    });
    parser.on('file', (name, part, info) => {
      if (name !== 'file' || filename !== null)
        return fail(invalidRequest('invalid_form', "Expected one file, in the part named 'file'."));
      filename = cleanFilename(info.filename);
      part.on('error', () => fail(malformed()));
      // Not `pipe` with its own end: the content ends when the form has.
      part.pipe(content, { end: false });
      resolve(filename);
    });
    parser.on('fieldsLimit', () =>
      fail(invalidRequest('invalid_form', `The form has more than ${FIELDS_MAX} fields.`)),
    );
    parser.on('filesLimit', () => fail(invalidRequest('invalid_form', "Expected one file, in the part named 'file'.")));
    parser.on('error', () => fail(malformed()));
    parser.on('close', () => {
      if (filename === null)
        fail(invalidRequest('missing_required_parameter', "Missing required parameter: 'file'.", 'file'));
      else content.end();
    });
    request.once('aborted', () => fail(invalidRequest('incomplete_body', 'The upload was broken off.')));
  });
  // A reader that stops early (the file is too large) must not leave the client stuck in the middle of its upload.
  content.once('close', () => {
    if (content.readableEnded) return;
    request.unpipe(parser);
    request.resume();
  });
  // Whoever reads `content` sees its error; before that, `found` carries it.
  content.on('error', () => undefined);
  request.pipe(parser);
  return { filename: await found, body: content, fields: () => fields };
}

function malformed(): ApiError {
  return invalidRequest('invalid_form', 'The form is malformed or ended early.');
}

const FORM_TYPE = "multipart/form-data with a boundary, its parts named 'file' and 'purpose'";

function startParser(request: Request): busboy.Busboy {
  const type = request.header('content-type') ?? '';
  if (!/^multipart\/form-data\s*;/i.test(type)) throw unsupportedContentType(FORM_TYPE, type);
  try {
    return busboy({
      headers: request.headers,
      limits: {
        files: 1,
        fields: FIELDS_MAX,
        parts: FIELDS_MAX + 2,
        fieldSize: FIELD_BYTES_MAX,
        fieldNameSize: 100,
        headerPairs: 32,
      },
      defParamCharset: 'utf8',
    });
  } catch {
    // busboy throws only over the content type: no boundary in it.
    throw invalidRequest('invalid_form', 'The multipart form has no boundary.');
  }
}

/** The last part of a path, without control characters. */
function cleanFilename(name: string | undefined): string {
  const last = (name ?? '').split(/[\\/]/).at(-1) ?? '';
  // oxlint-disable-next-line no-control-regex -- removing control characters is what this is for
  const printable = last.replace(/[\u0000-\u001f\u007f]/g, '').slice(0, FILENAME_CHARS_MAX);
  return printable === '' ? 'upload' : printable;
}
