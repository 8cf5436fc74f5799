import { Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import type { Response } from 'express';
import {
  Entropy,
  fileObject,
  FileStore,
  ObjectMissing,
  ObjectStore,
  storeFile,
  type FileRecord,
  type KeyRecord,
  RETENTION_MS,
} from '@freehold/market';
import { ApiError, invalidRequest, notFound } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { requestFacts, type ApiRequest } from '../http/api-request.ts';
import { continueBody } from '../http/continue-body.ts';
import { listBody, pageOf, unknownCursor } from '../http/list-body.ts';
import { Stores } from '../http/room.guard.ts';
import { fileBody } from './file-body.ts';
import { receiveForm } from './upload.ts';

const PURPOSES = ['batch', 'fine-tune', 'assistants', 'vision', 'user_data'];
const EXPIRES_S = { min: 3_600, max: 2_592_000 } as const;
const PAGE = { limitDefault: 10_000, limitMax: 10_000, hasOrder: true } as const;

@Controller('v1/files')
@Needs('files')
export class FilesController {
  readonly #files: FileStore;
  readonly #objects: ObjectStore;
  readonly #entropy: Entropy;

  constructor(files: FileStore, objects: ObjectStore, entropy: Entropy) {
    this.#files = files;
    this.#objects = objects;
    this.#entropy = entropy;
  }

  @Post()
  @Stores()
  @HttpCode(200)
  async upload(
    @Caller() caller: KeyRecord,
    @Req() request: ApiRequest,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Record<string, unknown>> {
    const form = await receiveForm(request, () => continueBody(request, response));
    const file = await storeFile(
      { files: this.#files, objects: this.#objects, entropy: this.#entropy },
      {
        orgId: caller.orgId,
        filename: form.filename,
        body: form.body,
        fields: () => fieldsOf(form.fields()),
        request: requestFacts(request, caller),
      },
    );
    return fileBody(file);
  }

  @Get()
  async list(@Caller() caller: KeyRecord, @Query() query: Record<string, unknown>): Promise<Record<string, unknown>> {
    const { purpose } = query;
    if (purpose !== undefined && typeof purpose !== 'string')
      throw invalidRequest('invalid_value', "Invalid 'purpose'.", 'purpose');
    const listed = await this.#files.list(caller.orgId, pageOf(query, PAGE), purpose ?? null);
    if (listed === null) throw unknownCursor();
    return listBody(listed, fileBody);
  }

  @Get(':id')
  async get(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    return fileBody(await this.#found(caller, id));
  }

  @Get(':id/content')
  async content(@Caller() caller: KeyRecord, @Param('id') id: string, @Res() response: Response): Promise<void> {
    const file = await this.#found(caller, id);
    if ((await this.#objects.size(fileObject(file.id))) === null) throw new ObjectMissing(fileObject(file.id));
    response.setHeader('content-type', 'application/octet-stream');
    response.setHeader('content-length', String(file.bytes));
    response.setHeader('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`);
    for await (const chunk of this.#objects.read(fileObject(file.id))) {
      if (response.destroyed) return;
      if (!response.write(chunk)) await drain(response);
    }
    response.end();
  }

  @Delete(':id')
  async remove(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const removed = await this.#files.remove(caller.orgId, id);
    if (removed === 'not-found') throw notFound('file', id);
    if (removed === 'in-use') {
      throw new ApiError({
        status: 409,
        type: 'invalid_request_error',
        code: 'file_in_use',
        message: 'A job that is not over reads this file: cancel the job, or wait for its end.',
      });
    }
    await this.#objects.remove(fileObject(id));
    return { id, object: 'file', deleted: true };
  }

  async #found(caller: KeyRecord, id: string): Promise<FileRecord> {
    const file = await this.#files.get(caller.orgId, id);
    if (file === null) throw notFound('file', id);
    return file;
  }
}

function drain(response: Response): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go);
      response.off('close', go);
      resolve();
    };
    response.once('drain', go);
    response.once('close', go);
  });
}

function fieldsOf(fields: Readonly<Record<string, string>>): { purpose: string; expiresInMs: number | null } {
  const { purpose } = fields;
  if (purpose === undefined)
    throw invalidRequest('missing_required_parameter', "Missing required parameter: 'purpose'.", 'purpose');
  if (!PURPOSES.includes(purpose))
    throw invalidRequest('invalid_value', `Invalid 'purpose': expected one of ${PURPOSES.join(', ')}.`, 'purpose');
  // As OpenAI documents: inputs of batches expire by themselves, everything else is kept until it is deleted.
  return { purpose, expiresInMs: expiryOf(fields) ?? (purpose === 'batch' ? RETENTION_MS : null) };
}

/** `expires_after[anchor]`, `expires_after[seconds]`: how the SDKs flatten the object into a form. */
function expiryOf(fields: Readonly<Record<string, string>>): number | null {
  const anchor = fields['expires_after[anchor]'];
  const text = fields['expires_after[seconds]'];
  if (anchor === undefined && text === undefined) return null;
  const expiresS = Number(text);
  if (anchor !== 'created_at' || !Number.isInteger(expiresS) || expiresS < EXPIRES_S.min || expiresS > EXPIRES_S.max) {
    throw invalidRequest(
      'invalid_value',
      `Invalid 'expires_after': expected anchor 'created_at' and seconds from ${EXPIRES_S.min} to ${EXPIRES_S.max}.`,
      'expires_after',
    );
  }
  return expiresS * 1_000;
}
