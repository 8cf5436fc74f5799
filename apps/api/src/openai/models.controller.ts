import { Controller, Delete, Get, Inject, Query, Req } from '@nestjs/common';
import { knownModels, OfferBook, ProviderLink, type KnownModel } from '@freehold/market';
import { ApiError, invalidRequest, notFound } from '@freehold/protocol';
import type { Offer } from '@freehold/protocol';
import { Needs } from '../accounts/needs.ts';
import type { ApiRequest } from '../http/api-request.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { modelBody, openRouterBody } from './model-body.ts';

/** The models that are listed or offered. Names may hold slashes and colons (`ft:base:org::id`), so the rest of the path is the name. */
@Controller('v1/models')
@Needs('models')
export class ModelsController {
  readonly #offers: OfferBook;
  readonly #link: ProviderLink;
  readonly #settings: ApiSettings;

  constructor(offers: OfferBook, link: ProviderLink, @Inject(API_SETTINGS) settings: ApiSettings) {
    this.#offers = offers;
    this.#link = link;
    this.#settings = settings;
  }

  @Get()
  async list(@Query('format') format: unknown): Promise<Record<string, unknown>> {
    if (format !== undefined && format !== 'openai' && format !== 'openrouter')
      throw invalidRequest('invalid_value', "Invalid 'format': expected 'openrouter', or leave it out.", 'format');
    const models = await this.#known();
    return format === 'openrouter'
      ? { data: models.map(openRouterBody) }
      : { object: 'list', data: models.map(modelBody) };
  }

  @Get('*name')
  async get(@Req() request: ApiRequest): Promise<Record<string, unknown>> {
    return modelBody(await this.#found(request));
  }

  @Delete('*name')
  async remove(@Req() request: ApiRequest): Promise<never> {
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
    const name = decodeURIComponent(request.path.slice('/v1/models/'.length));
    const model = (await this.#known()).find((known) => known.name === name);
    if (model === undefined) throw notFound('model', name);
    return model;
  }

  async #known(): Promise<KnownModel[]> {
    const offers = new Map<string, Offer>();
    for (const offer of await this.#offers.offers()) offers.set(offer.node, offer);
    // What a connected node says now is newer than what was stored.
    for (const node of this.#link.nodes()) offers.set(node.id, node.offer);
    return knownModels(this.#settings.catalogue, [...offers.values()]);
  }
}
