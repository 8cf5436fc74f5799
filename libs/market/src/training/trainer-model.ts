const PREFIX = 'trainer/';

/** What a node that trains a base calls it in its offer, so that no chat is ever sent to a trainer. */
export function trainerModel(base: string): string {
  return `${PREFIX}${base}`;
}

/** The base behind a trainer's name; null for any other model. */
export function baseOfTrainer(model: string): string | null {
  return model.startsWith(PREFIX) ? model.slice(PREFIX.length) : null;
}
