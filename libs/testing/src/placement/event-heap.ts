/** Events by their times. */
export class EventHeap<T extends { readonly atS: number }> {
  readonly #items: T[] = [];

  peek(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    for (; at > 0; at = (at - 1) >> 1) {
      const parent = items[(at - 1) >> 1];
      if (parent === undefined || parent.atS <= item.atS) break;
      items[at] = parent;
    }
    items[at] = item;
  }

  pop(): T | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (items.length === 0 || last === undefined) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (this.#atS(child + 1) < this.#atS(child)) child += 1;
      const below = items[child];
      if (below === undefined || below.atS >= last.atS) break;
      items[at] = below;
      at = child;
    }
    items[at] = last;
    return first;
  }

  #atS(at: number): number {
    return this.#items[at]?.atS ?? Number.POSITIVE_INFINITY;
  }
}
