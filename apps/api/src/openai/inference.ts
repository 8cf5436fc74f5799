import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import {
  Blocks,
  Entropy,
  FineTuneStore,
  identityOf,
  JobStore,
  knownModel,
  LeaseStore,
  MonotonicClock,
  ObjectDesk,
  ObjectStore,
  OfferBook,
  PromptPrefixes,
  ProviderLink,
  runStream,
  SignatureCheck,
  Signer,
  StreamDesk,
  StreamPace,
  STREAM_MS_MAX,
  toHex,
  type KeyRecord,
  type KnownModel,
  type StreamStep,
  memoryListed,
} from '@freehold/market';
import {
  ApiError,
  invalidRequest,
  lineOfWork,
  parseMarketTerms,
  type BatchEndpoint,
  type RequestWork,
} from '@freehold/protocol';
import type { Response } from 'express';
import { requestFacts, type ApiRequest } from '../http/api-request.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';

const ID_BYTES = 12;

/** A normalised request with where it came from. */
export interface Asked {
  readonly caller: KeyRecord;
  readonly request: ApiRequest;
  readonly endpoint: BatchEndpoint;
  readonly requestId: string;
  readonly model: KnownModel;
  readonly work: RequestWork;
  readonly metadata: unknown;
}

/** Where the api says what happened: ids, counts and codes, never prompts, answers or keys. */
export abstract class Reporter {
  /** Something went wrong. */
  abstract report(what: string, facts: Readonly<Record<string, unknown>>): void;
  /** A request is over. */
  abstract request(facts: Readonly<Record<string, unknown>>): void;
}

/** The stream road as the controllers see it. */
@Injectable()
export class Inference implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #ports: Omit<Parameters<typeof runStream>[0], 'standing' | 'tries' | 'report'>;
  readonly #offers: OfferBook;
  readonly #fineTunes: FineTuneStore;
  readonly #settings: ApiSettings;
  readonly #desk: StreamDesk;
  readonly #pace = new StreamPace();
  readonly #prefixes: PromptPrefixes;
  readonly #reporter: Reporter;

  constructor(
    jobs: JobStore,
    leases: LeaseStore,
    objects: ObjectStore,
    link: ProviderLink,
    signer: Signer,
    signatures: SignatureCheck,
    blocks: Blocks,
    entropy: Entropy,
    clock: MonotonicClock,
    offers: OfferBook,
    fineTunes: FineTuneStore,
    objectDesk: ObjectDesk,
    reporter: Reporter,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#ports = {
      jobs,
      leases,
      objects,
      link,
      signer,
      signatures,
      blocks,
      entropy,
      holdsModel: settings.holdsModel,
      listed: memoryListed(settings.catalogue),
      desk: objectDesk,
    };
    this.#prefixes = new PromptPrefixes(clock, entropy);
    this.#fineTunes = fineTunes;
    this.#offers = offers;
    this.#settings = settings;
    this.#reporter = reporter;
    this.#desk = new StreamDesk({ leases, link, clock, report: (what, error) => this.#note(what, error) });
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.#ports.link.listen(this.#desk);
  }

  /** Comes after the HTTP server has drained: no request is under way any more. */
  async onApplicationShutdown(): Promise<void> {
    await this.#ports.link.close();
  }

  newId(prefix: 'chatcmpl' | 'embd'): string {
    return `${prefix}-${toHex(this.#ports.entropy.bytes(ID_BYTES)).slice(2)}`;
  }

  /** A model of the caller's own by its name: the base that runs it, and the adapter that makes it its own. */
  async modelOf(
    caller: KeyRecord,
    name: string,
    kind: 'chat' | 'embedding',
  ): Promise<{ readonly model: KnownModel; readonly adapter: string | null }> {
    const own = name.startsWith('ft:') ? await this.#fineTunes.model(caller.orgId, name) : null;
    return { model: await this.model(own?.base ?? name, kind), adapter: own?.adapter ?? null };
  }

  /** The model by its name; connected nodes and catalogue are at hand, posted offers elsewhere are asked for only then. */
  async model(name: string, kind: 'chat' | 'embedding'): Promise<KnownModel> {
    const live = this.#ports.link.nodes().map((node) => node.offer);
    const { catalogue } = this.#settings;
    const connected = knownModel(name, catalogue, live, kind);
    const known =
      connected?.kind === kind
        ? connected
        : (knownModel(name, catalogue, await this.#offers.offers(), kind) ?? connected);
    if (known === null) {
      throw new ApiError({
        status: 404,
        type: 'invalid_request_error',
        code: 'model_not_found',
        message: `The model '${name}' does not exist here: GET /v1/models lists those that do.`,
        param: 'model',
      });
    }
    if (known.kind !== kind) {
      throw invalidRequest(
        'model_not_supported',
        `The model '${name}' makes ${known.kind === 'chat' ? 'text' : 'vectors'}: it does not serve this endpoint.`,
        'model',
      );
    }
    return known;
  }

  /** Runs a request until its end, or until the requester hangs up. */
  async *run(asked: Asked, signal: AbortSignal): AsyncGenerator<StreamStep> {
    const { caller, request, endpoint, requestId, model, work } = asked;
    const market = parseMarketTerms(asked.metadata, Date.now(), 'chat');
    if (!market.ok) throw invalidRequest(market.problem.code, market.problem.message, market.problem.param);
    const identity = identityOf({ ...requestFacts(request, caller), bodyHash: request.bodyHash ?? new Uint8Array(32) });
    await this.#desk.refreshed();
    const steps = runStream(
      {
        ...this.#ports,
        pace: this.#pace,
        prefixes: this.#prefixes,
        standing: this.#desk,
        tries: this.#desk.tries,
        report: (what, error) => this.#note(what, error),
      },
      {
        requestId,
        orgId: caller.orgId,
        keyId: caller.id,
        kind: model.kind,
        endpoint,
        model: model.name,
        contextTokens: model.contextTokens,
        ceiling: model.ceiling,
        work,
        line: lineOfWork(requestId, endpoint, model.name, work),
        metadata: market.value.metadata,
        terms: market.value.terms,
        identity,
      },
      signal,
    );
    let takenMs: number | null = null;
    for await (const step of steps) {
      if (step.type === 'taken') takenMs = performance.now();
      else if (step.type === 'done' && takenMs !== null)
        this.#pace.note(model.name, (performance.now() - takenMs) / 1_000);
      yield step;
    }
  }

  #note(what: string, error: unknown): void {
    this.#reporter.report(what, { error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
}

/** Ends when the requester hangs up, or when nobody waits any longer anyway. */
export function untilGone(response: Response): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new Error('the requester hung up'));
  });
  return AbortSignal.any([gone.signal, AbortSignal.timeout(STREAM_MS_MAX)]);
}

/** What the answer will not show, in a header instead of a refusal: clients send fields by habit. */
export function warnIgnored(response: Response, ignored: readonly string[]): void {
  if (ignored.length > 0) response.setHeader('x-freehold-ignored', ignored.join(', '));
}
