import type { ExitPlan } from '@freehold/market';
import { formatMoney } from '@freehold/protocol';
import { stepInWords } from '@freehold/wiring/node';

/** A plan as lines for people. Amounts in whole tokens of six decimals. */
export function planLines(plan: ExitPlan, now: bigint): string[] {
  const lines = [`  still to come: ${formatMoney(plan.owed)}`];
  for (const [i, step] of plan.steps.entries()) lines.push(`  now ${i + 1}. ${stepInWords(step)}`);
  for (const { why, until } of plan.waits)
    lines.push(until > now ? `  waits until ${at(until)} (${duration(until - now)}): ${why}` : `  waits: ${why}`);
  for (const { amount, why } of plan.lost) lines.push(`  not to be had here: ${formatMoney(amount)}: ${why}`);
  return lines;
}

/** The same for programs: amounts and times as decimal strings. */
export function planJson(plan: ExitPlan): Record<string, unknown> {
  return {
    owed: String(plan.owed),
    steps: plan.steps.map((step) => ({ do: step.do, words: stepInWords(step) })),
    waits: plan.waits.map(({ why, until }) => ({ why, until: String(until), at: at(until) })),
    lost: plan.lost.map(({ amount, why }) => ({ amount: String(amount), why })),
  };
}

/** A second of the chain's clock as a date. */
export function at(second: bigint): string {
  return new Date(Number(second) * 1_000).toISOString().replace('.000Z', 'Z');
}

function duration(seconds: bigint): string {
  const [days, hours, minutes] = [seconds / 86_400n, (seconds / 3_600n) % 24n, (seconds / 60n) % 60n];
  if (days > 0n) return `${days} d ${hours} h`;
  if (hours > 0n) return `${hours} h ${minutes} min`;
  return minutes > 0n ? `${minutes} min ${seconds % 60n} s` : `${seconds} s`;
}
