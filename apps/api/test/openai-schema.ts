import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv, type ValidateFunction } from 'ajv';
import { z } from 'zod';

const REFERENCE = new URL('../../../../shared/reference/openai-openapi-subset.json', import.meta.url);
const DEVIATIONS = new URL('../../../test/openai-deviations.json', import.meta.url);

const Deviations = z.array(
  z.strictObject({ name: z.string(), schema: z.string(), path: z.string(), why: z.string().min(20) }),
);

export interface SchemaJudge {
  /** What of an answer the published schema does not allow, beyond the committed deviations. */
  faults(schema: string, answer: unknown): string[];
  /** Deviations of the schemas asked for that were never needed: the list must not grow stale. */
  unused(): string[];
  /** The properties that a schema names. */
  properties(schema: string): string[];
}

/** OpenAI's published schema as a judge; null where the reference is not at hand. */
export function schemaJudge(): SchemaJudge | null {
  if (!existsSync(fileURLToPath(REFERENCE))) return null;
  const document = withNulls(JSON.parse(readFileSync(REFERENCE, 'utf8'))) as {
    components: { schemas: Readonly<Record<string, { properties?: object }>> };
  };
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema({ $id: 'openai', components: document.components });
  const deviations = Deviations.parse(JSON.parse(readFileSync(DEVIATIONS, 'utf8')));
  const used = new Set<string>();
  const asked = new Set<string>();
  return {
    faults: (schema, answer) => {
      asked.add(schema);
      const validate: ValidateFunction | undefined = ajv.getSchema(`openai#/components/schemas/${schema}`);
      if (validate === undefined) throw new Error(`the reference has no schema ${schema}`);
      if (validate(answer) === true) return [];
      return (validate.errors ?? []).flatMap((error) => {
        const known = deviations.find(
          (deviation) => deviation.schema === schema && new RegExp(deviation.path).test(error.instancePath),
        );
        if (known === undefined) return [`${schema}${error.instancePath}: ${error.message ?? error.keyword}`];
        used.add(known.name);
        return [];
      });
    },
    unused: () => deviations.filter(({ schema, name }) => asked.has(schema) && !used.has(name)).map(({ name }) => name),
    properties: (schema) => Object.keys(document.components.schemas[schema]?.properties ?? {}),
  };
}

/** OpenAPI 3.0's `nullable` and its yes-or-no `exclusiveMinimum` in the words of JSON Schema. */
function withNulls(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withNulls);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { nullable, exclusiveMinimum, minimum, ...others } = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, withNulls(value)]),
  );
  const lowest = exclusiveMinimum === true ? { exclusiveMinimum: minimum } : { exclusiveMinimum, minimum };
  const rest = Object.fromEntries(Object.entries({ ...others, ...lowest }).filter(([, value]) => value !== undefined));
  return nullable === true ? { anyOf: [rest, { type: 'null' }] } : rest;
}
