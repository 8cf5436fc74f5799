import { unitsFromJson, unitsToJson, type Rates } from '@freehold/domain';
import type { Engine, EngineDescription, EngineModel } from '@freehold/market';
import { OfferModel } from '@freehold/protocol';
import { Slots } from './slots.ts';

/** One model that this node serves: its engine, its slots, its price. */
export interface Seat {
  readonly engine: Engine;
  readonly description: EngineDescription;
  readonly model: EngineModel;
  readonly slots: Slots;
  readonly rates: Rates;
}

export interface Refusal {
  readonly code: string;
  readonly message: string;
}

const KINDS = {
  chat: ['inputToken', 'cachedInputToken', 'outputToken'],
  embedding: ['embeddingToken'],
  'fine-tune': ['trainingToken'],
} as const;

/** All models of all engines. The first engine that has a (name, digest) serves it. */
export class Seats {
  readonly all: readonly Seat[];
  /** By engine: the models that answer without being loaded first; null: all of them. */
  readonly #loaded = new Map<Engine, ReadonlySet<string> | null>();
  /** Of each seat, as the last offer says. */
  #offeredLoaded: readonly boolean[] = [];

  private constructor(all: readonly Seat[]) {
    this.all = all;
  }

  /**
   * Asks the engines what they have in memory. Returns whether the last offer that went out says something else: until
   * {@link offered}. Of an engine that does not answer the last word stands, and the fault is thrown when nobody had news.
   */
  async look(): Promise<boolean> {
    const engines = [...new Set(this.all.map(({ engine }) => engine))];
    const answers = await Promise.allSettled(engines.map((engine) => engine.loaded()));
    for (const [i, engine] of engines.entries()) {
      const answer = answers[i];
      if (answer?.status === 'fulfilled') this.#loaded.set(engine, answer.value);
    }
    const isNews = this.all.some((seat, at) => this.#isLoaded(seat) !== this.#offeredLoaded[at]);
    const silent = answers.find((answer) => answer.status === 'rejected');
    if (!isNews && silent !== undefined) throw silent.reason;
    return isNews;
  }

  /** The offer that says what {@link look} found is out. */
  offered(): void {
    this.#offeredLoaded = this.all.map((seat) => this.#isLoaded(seat));
  }

  #isLoaded({ engine, model }: Seat): boolean {
    return this.#loaded.get(engine)?.has(model.name) ?? true;
  }

  static async describe(
    engines: readonly Engine[],
    setting: {
      readonly rates: Rates;
      readonly slots: number | null;
      readonly chatSharePercent: number;
      readonly model: string | null;
      readonly onChange: () => void;
    },
  ): Promise<Seats> {
    const seats: Seat[] = [];
    for (const engine of engines) {
      const description = await engine.describe();
      for (const model of description.models) {
        if (setting.model !== null && model.kind === 'chat' && model.name !== setting.model) continue;
        if (seats.some((seat) => seat.model.name === model.name && seat.model.digest === model.digest)) continue;
        seats.push({
          engine,
          description,
          model,
          // A trainer works on one segment at a time, whatever chat may do.
          slots: new Slots(
            model.kind === 'fine-tune' ? model.slots : (setting.slots ?? model.slots),
            setting.chatSharePercent,
            setting.onChange,
          ),
          rates: ratesOf(model.kind, setting.rates),
        });
      }
    }
    const made = new Seats(seats);
    await made.look();
    made.offered();
    return made;
  }

  get freeSlots(): number {
    return this.all.reduce((sum, { slots }) => sum + slots.free, 0);
  }

  get busyChats(): number {
    return this.all.reduce((sum, { slots }) => sum + slots.chats, 0);
  }

  find(name: string, digest: string): Seat | null {
    return this.all.find(({ model }) => model.name === name && model.digest === digest) ?? null;
  }

  /** The seat for work at these rates, or why not: no such model here, or less than the offer's price. */
  seatFor(name: string, digest: string, rates: Readonly<Record<string, string>>): Seat | Refusal {
    const seat = this.find(name, digest);
    if (seat === null)
      return {
        code: 'MODEL_UNKNOWN',
        message: `This node has no ${name} with digest ${digest}; it serves ${this.all.map(({ model }) => model.name).join(', ')}.`,
      };
    const offered = unitsFromJson(rates);
    for (const [kind, rate] of Object.entries(unitsToJson(seat.rates))) {
      const got = offered[kind as keyof Rates] ?? 0n;
      if (got < BigInt(rate))
        return { code: 'RATE_TOO_LOW', message: `${kind} at ${got} per million: this node asks ${rate}.` };
    }
    return seat;
  }

  /** @param measured What this machine does with a model, by digest. */
  offerEngines(measured: {
    readonly rowsPerSecond: (digest: string) => number;
    readonly loadS: (digest: string) => number | undefined;
  }): { class: string; models: OfferModel[] }[] {
    const byClass = new Map<string, OfferModel[]>();
    for (const seat of this.all) {
      const { description, model, slots, rates } = seat;
      const models = byClass.get(description.engineClass) ?? [];
      const loadS = measured.loadS(model.digest);
      models.push({
        name: model.name,
        digest: model.digest,
        kind: model.kind,
        quantisation: model.quantisation,
        contextTokens: model.contextTokens,
        slots: slots.total,
        loaded: this.#isLoaded(seat),
        caps: { ...model.caps },
        rates: unitsToJson(rates),
        rowsPerSecond: measured.rowsPerSecond(model.digest),
        ...(loadS === undefined ? {} : { loadS }),
        ...memoryOf(model),
      });
      byClass.set(description.engineClass, models);
    }
    return [...byClass].map(([name, models]) => ({ class: name, models }));
  }
}

/** Only what an offer may say: a mistake of an engine must not cost the node all of its offer. */
function memoryOf({ memory }: EngineModel): Pick<OfferModel, 'memory'> {
  const said = OfferModel.shape.memory.safeParse(memory);
  return said.success && said.data !== undefined ? { memory: said.data } : {};
}

function ratesOf(kind: keyof typeof KINDS, rates: Rates): Rates {
  return Object.fromEntries(KINDS[kind].flatMap((unit) => (rates[unit] === undefined ? [] : [[unit, rates[unit]]])));
}
