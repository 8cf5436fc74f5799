import { wrongRowsDelivered } from '../books.ts';
import { SimWorld, type Scenario } from '../sim-world.ts';
import { type Attack, type Role, type Seat } from './attack.ts';
import { AUDITORS } from './auditors.ts';
import { OPERATORS } from './operators.ts';
import { PROVIDERS, SYBILS } from './providers.ts';
import { REQUESTERS } from './requesters.ts';

export const ATTACKS: readonly Attack[] = [...REQUESTERS, ...PROVIDERS, ...SYBILS, ...AUDITORS, ...OPERATORS];

/** One line of the table: means over the seeds, in the token's smallest unit. */
export interface AttackLine {
  readonly role: Role;
  readonly strategy: string;
  readonly income: number;
  readonly cost: number;
  readonly profit: number;
  readonly honestProfit: number;
  /** Share of seeds in which the market held it against the attacker. */
  readonly caught: number;
  /** Rows that reached a requester and were made up, over all seeds. */
  readonly badRows: number;
  readonly isHonestBest: boolean;
  readonly exception: string | null;
}

interface Played {
  readonly income: number;
  readonly cost: number;
  readonly badRows: number;
  readonly isCaught: boolean;
}

async function play(seat: Seat, seed: number, market: Scenario, isCaught: Attack['isCaught']): Promise<Played> {
  const world = new SimWorld(seed, market);
  await world.run();
  const { income, cost } = await seat.purse(world);
  return { income, cost, badRows: await wrongRowsDelivered(world), isCaught: isCaught(world) };
}

/** Plays every attack and, under the same seeds, the honest player in the same place. */
export async function attackTable(
  seeds: number,
  attacks: readonly Attack[] = ATTACKS,
  from = 1,
): Promise<AttackLine[]> {
  const honest = new Map<string, number>();
  const honestProfit = async (seat: Seat): Promise<number> => {
    const known = honest.get(seat.name);
    if (known !== undefined) return known;
    const profit = mean(
      await overSeeds(from, seeds, (seed) => play(seat, seed, seat.market(seed), () => false)),
      profitOf,
    );
    honest.set(seat.name, profit);
    return profit;
  };
  const lines: AttackLine[] = [];
  for (const { role, name, seat, change, isCaught, exception } of attacks) {
    const played = await overSeeds(from, seeds, (seed) => play(seat, seed, change(seat.market(seed)), isCaught));
    const profit = mean(played, profitOf);
    const beside = await honestProfit(seat);
    lines.push({
      role,
      strategy: name,
      income: mean(played, ({ income }) => income),
      cost: mean(played, ({ cost }) => cost),
      profit,
      honestProfit: beside,
      caught: played.filter((one) => one.isCaught).length / seeds,
      badRows: played.reduce((sum, { badRows }) => sum + badRows, 0),
      isHonestBest: profit <= beside,
      exception: exception ?? null,
    });
  }
  return lines;
}

async function overSeeds<T>(from: number, seeds: number, work: (seed: number) => Promise<T>): Promise<T[]> {
  const done: T[] = [];
  for (let seed = from; seed < from + seeds; seed += 1) done.push(await work(seed));
  return done;
}

function profitOf({ income, cost }: Played): number {
  return income - cost;
}

function mean<T>(of: readonly T[], what: (one: T) => number): number {
  return Math.round(of.reduce((sum, one) => sum + what(one), 0) / of.length);
}

/** Honest is best, or the exception is written down. */
export function isAsWritten({ isHonestBest, exception }: AttackLine): boolean {
  return isHonestBest || exception !== null;
}

/** The table as people read it, in Markdown. */
export function attackMarkdown(lines: readonly AttackLine[]): string {
  const head = ['role', 'strategy', 'income', 'cost', 'profit', 'honest', 'caught', 'bad rows', 'honest is best'];
  const rows = lines.map((line) => [
    line.role,
    line.strategy,
    ...[line.income, line.cost, line.profit, line.honestProfit].map(String),
    `${Math.round(line.caught * 100)} %`,
    String(line.badRows),
    line.isHonestBest ? 'yes' : 'no',
  ]);
  const text = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [text(head), text(head.map(() => '---')), ...rows.map(text)].join('\n');
}
