/** Writes freehold-tiny as transformers loads it; returns the folder's path. */
export function transformersFolder(dir: string): string;
