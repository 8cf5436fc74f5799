import { readFileSync } from 'node:fs';
import { Catalogue, ListPrices } from '@freehold/protocol';

/** The models this coordinator lists, with the highest rates it admits by default. Checked at start: a typo must not price work. */
export function readCatalogue(file: URL = new URL('../../../../models/catalogue.json', import.meta.url)): Catalogue {
  return Catalogue.parse(JSON.parse(readFileSync(file, 'utf8')));
}

/** What hosted APIs ask for comparable work, for the comparison beside every quote. */
export function readListPrices(
  file: URL = new URL('../../../../models/list-prices.json', import.meta.url),
): ListPrices {
  return ListPrices.parse(JSON.parse(readFileSync(file, 'utf8')));
}
