import { Controller, Delete, Get, Inject, Query, Req } from '@nestjs/common';
import {
  FineTuneStore,
  knownModels,
  ObjectStore,
  OfferBook,
  ProviderLink,
  removeModel,
  type FineTunedModel,
  type KeyRecord,
  type KnownModel,
  type StandingOffer,
} from '@freehold/market';
import { ApiError, invalidRequest, notFound } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import type { ApiRequest } from '../http/api-request.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { fineTunedBody, modelBody, openRouterBody } from './model-body.ts';

/** The models that are listed or offered. Names may hold slashes and colons (`ft:base:org::id`), so the rest of the path is the name. */
@Controller('v1/models')
@Needs('models')
export class ModelsController {
  readonly #offers: OfferBook;
  readonly #link: ProviderLink;
  readonly #settings: ApiSettings;
  readonly #fineTunes: FineTuneStore;
  readonly #objects: ObjectStore;

  constructor(
    offers: OfferBook,
    link: ProviderLink,
    fineTunes: FineTuneStore,
    objects: ObjectStore,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#fineTunes = fineTunes;
    this.#objects = objects;
    this.#offers = offers;
    this.#link = link;
    this.#settings = settings;
  }

  @Get()
  async list(@Caller() caller: KeyRecord, @Query('format') format: unknown): Promise<Record<string, unknown>> {
    if (format !== undefined && format !== 'openai' && format !== 'openrouter')
      throw invalidRequest('invalid_value', "Invalid 'format': expected 'openrouter', or leave it out.", 'format');
    const models = await this.#known();
    if (format === 'openrouter') return { data: models.map(openRouterBody) };
    const own = await this.#fineTunes.models(caller.orgId);
    const tuned = own.flatMap((model) => tunedBody(model, models));
    return { object: 'list', data: [...models.map(modelBody), ...tuned] };
  }

  @Get('*name')
  async get(@Caller() caller: KeyRecord, @Req() request: ApiRequest): Promise<Record<string, unknown>> {
    const own = await this.#fineTunes.model(caller.orgId, nameOf(request));
    if (own === null) return modelBody(await this.#found(request));
    const [body] = tunedBody(own, await this.#known());
    if (body === undefined) throw notFound('model', own.name);
    return body;
  }

  @Delete('*name')
  async remove(@Caller() caller: KeyRecord, @Req() request: ApiRequest): Promise<Record<string, unknown>> {
    const name = nameOf(request);
    const removed = await removeModel({ fineTunes: this.#fineTunes, objects: this.#objects }, caller.orgId, name);
    if (removed === 'removed') return { id: name, object: 'model', deleted: true };
    const model = await this.#found(request);
    throw new ApiError({
      status: 403,
      type: 'permission_error',
      code: 'model_not_owned',
      message: `The model '${model.name}' is not a fine-tune of this organisation: it cannot be deleted.`,
      param: 'model',
    });
  }

  async #found(request: ApiRequest): Promise<KnownModel> {
    const name = nameOf(request);
    const model = (await this.#known()).find((known) => known.name === name);
    if (model === undefined) throw notFound('model', name);
    return model;
  }

  async #known(): Promise<KnownModel[]> {
    const offers = new Map<string, StandingOffer>();
    for (const offer of await this.#offers.offers()) offers.set(offer.node, offer);
    // What a connected node says now is newer than what was stored.
    for (const node of this.#link.nodes()) offers.set(node.id, node.offer);
    return knownModels(this.#settings.catalogue, [...offers.values()]);
  }
}

/** Names may hold colons and slashes: the rest of the path is the name. */
function nameOf(request: ApiRequest): string {
  return decodeURIComponent(request.path.slice('/v1/models/'.length));
}

/** A fine-tune is what its base is, under its owner's name; nothing where the base is neither listed nor offered. */
function tunedBody(own: FineTunedModel, models: readonly KnownModel[]): Record<string, unknown>[] {
  const base = models.find(({ name }) => name === own.base);
  return base === undefined ? [] : [fineTunedBody(own, base)];
}
