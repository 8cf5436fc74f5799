/** Known-item search: the package whose description asks must be among the first five. */
export interface SearchResult {
  readonly recallAt5: number;
  readonly queries: number;
  readonly shown: readonly {
    readonly query: string;
    readonly wanted: string;
    readonly rank: number;
    readonly first: string;
  }[];
}

/** Index of the wanted document among all, by cosine, 1 = first. Vectors need not be normalised. */
export function rankOf(query: readonly number[], documents: readonly (readonly number[])[], wanted: number): number {
  const own = cosine(query, documents[wanted] ?? []);
  return 1 + documents.filter((document, i) => i !== wanted && cosine(query, document) > own).length;
}

export function cosine(a: readonly number[], b: readonly number[]): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i += 1) {
    const x = a[i] ?? 0;
    const y = b[i] ?? 0;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}

/**
 * @param documents Vectors of all documents, with names.
 * @param queries What is asked, and the index of the document that must be found.
 */
export function searchAll(
  documents: readonly { readonly name: string; readonly vector: readonly number[] }[],
  queries: readonly { readonly text: string; readonly vector: readonly number[]; readonly wanted: number }[],
): SearchResult {
  const vectors = documents.map((document) => document.vector);
  const ranked = queries.map((query) => {
    const scores = vectors.map((vector) => cosine(query.vector, vector));
    const best = scores.indexOf(Math.max(...scores));
    return {
      query: query.text,
      wanted: documents[query.wanted]?.name ?? '?',
      rank: rankOf(query.vector, vectors, query.wanted),
      first: documents[best]?.name ?? '?',
    };
  });
  const hits = ranked.filter((result) => result.rank <= 5);
  const misses = ranked.filter((result) => result.rank > 5);
  return {
    recallAt5: queries.length === 0 ? 0 : hits.length / queries.length,
    queries: queries.length,
    shown: [...hits.slice(0, 2), ...misses.slice(0, 1), ...hits.slice(2)].slice(0, 3),
  };
}

/** `count` queries spread evenly over the documents, so that every run asks the same ones. */
export function spreadIndices(total: number, count: number): number[] {
  const wanted = Math.min(total, count);
  return Array.from({ length: wanted }, (_, i) => Math.floor((i * total) / wanted));
}
