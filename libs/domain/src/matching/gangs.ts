import type { Ask } from './ask.ts';
import type { Choice, PlacementIndex, TaskClass } from './placement-index/placement-index.ts';

/** What a member of a gang asks of its node. What loading a model for it is worth is not asked: it needs so many nodes, whatever they have. */
export function memberAsk(of: Ask): Ask {
  const { loadGainS: _, ...ask } = of;
  return { ...ask, alone: true };
}

/**
 * A place for every member of a gang, each on a node of its own, or none at all. `task` asks for nodes that have nothing else under
 * way (`Ask.alone`), and for whatever else a node must have: slots of engines and whole GPUs are found alike. The index is as before.
 */
export function gangPlaces(
  index: PlacementIndex,
  task: TaskClass,
  members: number,
  cachedOn?: Ask['cachedOn'],
): readonly Choice[] | null {
  const places: Choice[] = [];
  while (places.length < members) {
    const place = index.best(task, null, cachedOn);
    if (place === null) break;
    index.hold(place.node);
    places.push(place);
  }
  for (const { node } of places) index.release(node);
  return places.length < members ? null : places;
}
