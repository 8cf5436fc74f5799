/** What a plain solid-state disk reads in a second (SATA: 550 MB); weights that lie in memory already come faster, networks are slower. */
const DISK_MIB_PER_S = 512;
/** No bus carries weights to a GPU faster (PCI Express 5, 16 lanes: 63 GB/s). What claims to be faster is no claim. */
const BUS_MIB_PER_S = 60_000;
/** A process that begins takes that long, whatever it loads. */
const LOAD_BEGINS_S = 1;

/**
 * Seconds until a model answers that is not loaded: as the market measured it on the node, else as its offer says, else what a
 * disk takes to read the weights. Undefined: nobody knows any of it.
 */
export function loadTimeSeconds(known: {
  readonly measuredS?: number | undefined;
  readonly offeredS?: number | undefined;
  readonly weightsMib?: number | undefined;
}): number | undefined {
  const { measuredS, offeredS, weightsMib } = known;
  if (measuredS !== undefined) return measuredS;
  if (offeredS !== undefined) return Math.max(offeredS, (weightsMib ?? 0) / BUS_MIB_PER_S);
  return weightsMib === undefined ? undefined : LOAD_BEGINS_S + weightsMib / DISK_MIB_PER_S;
}
