import { keepNewest } from '@freehold/domain';

/**
 * Vouchers told and not yet answered, for one node: four pages of those that it had lost, beside those of its newest work. An entry
 * takes about a hundred bytes, so all nodes that answer nothing take half a gigabyte together.
 */
export const DUE_MAX = 1_024;

/**
 * Which answers of a node are due, because it was told a voucher: these are our own doing, and count for no flood. Each telling is
 * good for one answer.
 */
export class DueAnswers {
  readonly #times = new Map<string, number>();

  told(task: string): void {
    const times = this.#times.get(task) ?? 0;
    keepNewest(this.#times, task, times + 1, DUE_MAX);
  }

  /** Whether an answer about this task was due; then it is no more. */
  answered(task: string): boolean {
    const times = this.#times.get(task) ?? 0;
    if (times > 1) this.#times.set(task, times - 1);
    else this.#times.delete(task);
    return times > 0;
  }
}
