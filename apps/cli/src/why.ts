import { resolve } from 'node:path';
import type { Command } from 'commander';
import { askMarket, reachApi, type ReachedApi } from '@freehold/wiring/operator';
import { printable } from '@freehold/protocol';
import { HOME } from './doctor.ts';

/** Regions, models and units are nodes' own words: they neither command the terminal that shows them nor fill it. */
const LINE_CHARS_MAX = 4_096;
const OTHERS_NAMED_MAX = 5;

interface Options {
  readonly data: string;
  readonly url?: string;
  readonly key?: string;
  readonly json: boolean;
}

/** What both explanations share, and what each adds. */
interface Why {
  readonly summary: string;
  readonly eliminated?: readonly { readonly requirement: string; readonly nodes: number; readonly endsInS?: number }[];
  readonly relaxations?: readonly {
    readonly changes: readonly string[];
    readonly nodes: number;
    readonly isPriced?: boolean;
  }[];
  readonly cheapestOffer?: { readonly rates: Readonly<Record<string, string>>; readonly withinCap: boolean } | null;
  readonly warmWait?: { readonly model: string; readonly expectedS: number; readonly expiresInS: number };
  readonly lost?: readonly { readonly says: string; readonly jobs: number }[];
  readonly priceThatWouldDo?: Readonly<Record<string, string>> | null;
  readonly priceThatWouldWin?: { readonly rates: Readonly<Record<string, string>> } | null;
  readonly past?: {
    readonly withinS: number;
    readonly summary: string;
    readonly priceThatWouldHaveWon: { readonly rates: Readonly<Record<string, string>> } | null;
  };
}

export function addWhy(program: Command): void {
  reaching(program.command('why').argument('<job>', 'its id, as batch_…'))
    .description('Why the rows of a job are (not) being placed, and the smallest changes that would place them.')
    .addHelpText('after', '\nExamples:\n  freehold why batch_…\n  freehold why batch_… --json | jq .relaxations')
    .action(async (job: string, options: Options) => {
      const api = reachApi(resolve(options.data), options);
      print(options, await askMarket(api, `/market/v1/jobs/${encodeURIComponent(job)}/explain`));
    });
}

/** `freehold node why`: it asks the market, so it is not one of the node process's own words. */
export function addNodeWhy(node: Command): void {
  reaching(
    node
      .command('why')
      .argument('[node]', 'its peer id; without it every node that is connected to the API that answers'),
  )
    .description(
      'Which jobs whose rows wait now a node gets and loses, by reason, and the price that would win one; and why batches of the last hour went to others.',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  freehold node why\n  freehold node why 16Uiu2… --json | jq .priceThatWouldWin\n  freehold node why --url https://api.example --key fh_…',
    )
    .action(async (id: string | undefined, options: Options) => {
      const api = reachApi(resolve(options.data), options);
      const { nodes, others } = id === undefined ? await connectedNodes(api) : { nodes: [id], others: null };
      if (others !== null) process.stderr.write(`${others}\n`);
      for (const one of nodes) {
        if (id === undefined && !options.json) process.stdout.write(`${one}\n`);
        print(options, await askMarket(api, `/market/v1/nodes/${encodeURIComponent(one)}/explain`));
      }
    });
}

function reaching(command: Command): Command {
  return command
    .option('--data <dir>', "the market's data directory", HOME)
    .option('--url <url>', 'the API, where it is not the one of the data directory')
    .option('--key <key>', 'an API key; else FREEHOLD_API_KEY, else the one of the data directory')
    .option('--json', 'one JSON line', false);
}

/** Offers as the market lists them. */
interface Listed {
  readonly data: readonly { readonly node: string; readonly connected: boolean; readonly free_slots: number | null }[];
  readonly has_more: boolean;
}

/** Only what the process that answers sees it can explain. */
export function explainable({ data, has_more: hasMore }: Listed): {
  readonly nodes: readonly string[];
  /** What is to be said of others that are here; null: there are none. */
  readonly others: string | null;
} {
  const nodes = data.filter((offer) => offer.free_slots !== null).map((offer) => offer.node);
  const elsewhere = data.filter((offer) => offer.connected && offer.free_slots === null).map((offer) => offer.node);
  const said = [
    ...(elsewhere.length === 0
      ? []
      : [
          `${elsewhere.length} more are here, and connected to other processes of the market: ask the API of one of those (--url) for ${elsewhere.slice(0, OTHERS_NAMED_MAX).join(', ')}${elsewhere.length > OTHERS_NAMED_MAX ? ', …' : ''}.`,
        ]),
    ...(hasMore
      ? [`The market lists ${data.length} of its offers: name a node to hear of one that is not among them.`]
      : []),
  ];
  return { nodes, others: said.length === 0 ? null : said.join(' ') };
}

async function connectedNodes(api: ReachedApi): Promise<ReturnType<typeof explainable>> {
  const found = explainable((await askMarket(api, '/market/v1/offers')) as unknown as Listed); // an answer of our own API
  if (found.nodes.length > 0) return found;
  throw new Error(found.others ?? 'No node is connected. Start one with "freehold node up".');
}

function print(options: Options, answer: unknown): void {
  process.stdout.write(options.json ? `${JSON.stringify(answer)}\n` : `${render(answer as Why)}\n`);
}

/** What a person reads of either explanation. */
export function render(why: Why): string {
  const rates = (list: Readonly<Record<string, string>>): string =>
    Object.entries(list)
      .map(([kind, rate]) => `${rate} per million of ${kind}`)
      .join(', ');
  const { cheapestOffer, priceThatWouldDo, priceThatWouldWin, warmWait, past } = why;
  const pastPrice = past?.priceThatWouldHaveWon;
  return [
    why.summary,
    ...(why.eliminated ?? []).map(
      ({ nodes, requirement, endsInS }) =>
        `  ${nodes} left out: a node must be one that ${requirement}${endsInS === undefined ? '' : `; the first is in ${endsInS} s`}`,
    ),
    ...(cheapestOffer ? [`  cheapest that would fit: ${rates(cheapestOffer.rates)}`] : []),
    ...(priceThatWouldDo ? [`  what those ask that price alone keeps away: ${rates(priceThatWouldDo)}`] : []),
    ...(why.relaxations ?? []).map((one) => {
      const asFar = one.isPriced === false ? ', if what it may cost still does' : '';
      return `  ${one.nodes} would fit${asFar}: ${one.changes.join(', and ')}`;
    }),
    ...(warmWait
      ? [
          `  waits about ${Math.ceil(warmWait.expectedS)} s for a slot where ${warmWait.model} is loaded; in ${Math.ceil(warmWait.expiresInS)} s at the latest it is loaded elsewhere`,
        ]
      : []),
    ...(why.lost ?? []).map((one) => `  ${one.jobs} lost: ${one.says}`),
    ...(priceThatWouldWin ? [`  would have won one at ${rates(priceThatWouldWin.rates)}`] : []),
    ...(past ? [`${lately(past.withinS)}: ${past.summary}`] : []),
    ...(pastPrice ? [`  no dearer than the others: ${rates(pastPrice.rates)}`] : []),
  ]
    .map((line) => printable(line, LINE_CHARS_MAX))
    .join('\n');
}

/** An hour is looked at, or the time since the node came. */
function lately(seconds: number): string {
  if (seconds >= 3_600) return 'In the last hour';
  return seconds < 120
    ? `In the ${seconds} s since it came`
    : `In the ${Math.floor(seconds / 60)} minutes since it came`;
}
