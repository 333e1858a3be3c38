// The errors of a JSON Schema, in the order in which the worker's `jsonschema` finds them.
//
// Only the keywords of the tools' input schemas; a test holds the manifest to these.

import { OnlyPythonKnows, countOf } from "./python_text.js";

/** @import { ArgumentSchema, SchemaError } from "./types.d.ts" */

/** @typedef {(string | number)[]} Path */
/** @typedef {(value: any, instance: any) => boolean} Holds */

/** @type {Record<string, Holds>} Whether one value conforms; any value that a keyword does not speak of does. */
const HOLDS = {
  type: (type, instance) => isOfType(instance, type),
  enum: (options, instance) => options.includes(instance),
  const: (value, instance) => value === instance,
  not: (schema, instance) => !isValid(schema, instance),
  minimum: (bound, instance) => typeof instance !== "number" || instance >= bound,
  maximum: (bound, instance) => typeof instance !== "number" || instance <= bound,
  minLength: (bound, instance) => typeof instance !== "string" || countOf(instance) >= bound,
  maxLength: (bound, instance) => typeof instance !== "string" || countOf(instance) <= bound,
  minItems: (bound, instance) => !Array.isArray(instance) || instance.length >= bound,
  maxItems: (bound, instance) => !Array.isArray(instance) || instance.length <= bound,
  pattern: (pattern, instance) => typeof instance !== "string" || isMatch(pattern, instance),
};
/** @type {Map<string, RegExp>} */
const patterns = new Map();

/** @typedef {(schema: ArgumentSchema, instance: unknown, path: Path, narrow: boolean) => Iterable<SchemaError>} Below */

/** @type {Record<string, Below>} The errors of a keyword that has schemas or names below it. */
const BELOW = {
  *allOf({ allOf = [] }, instance, path, narrow) {
    for (const part of allOf) yield* errorsOf(part, instance, path, narrow);
  },
  *if({ if: condition = {}, then = {} }, instance, path) {
    if (isValid(condition, instance)) yield* errorsOf(then, instance, path, true);
  },
  *items({ items = {} }, instance, path, narrow) {
    if (!Array.isArray(instance)) return;
    for (const [index, item] of instance.entries()) yield* errorsOf(items, item, [...path, index], narrow);
  },
  *properties({ properties = {} }, instance, path, narrow) {
    if (!isObject(instance)) return;
    for (const [name, schema] of Object.entries(properties)) {
      if (Object.hasOwn(instance, name)) yield* errorsOf(schema, instance[name], [...path, name], narrow);
    }
  },
  *required(schema, instance, path, narrow) {
    const { required = [] } = schema;
    const missing = isObject(instance) ? required.filter((name) => !Object.hasOwn(instance, name)) : [];
    // One for each that is missing, as in Python; each names all of them.
    yield* missing.map(() => ({ path, keyword: "required", value: required, instance, schema, narrow }));
  },
};

/**
 * @param {ArgumentSchema} schema
 * @param {unknown} instance
 * @param {Path} [path]
 * @param {boolean} [narrow] Whether this is the rule of one model.
 * @returns {Generator<SchemaError>}
 */
export function* errorsOf(schema, instance, path = [], narrow = false) {
  for (const [keyword, value] of Object.entries(schema)) {
    const holds = HOLDS[keyword];
    if (holds && !holds(value, instance)) yield { path, keyword, value, instance, schema, narrow };
    yield* BELOW[keyword]?.(schema, instance, path, narrow) ?? [];
  }
}

/**
 * @param {ArgumentSchema} schema
 * @param {unknown} instance
 */
function isValid(schema, instance) {
  return errorsOf(schema, instance).next().done === true;
}

/**
 * @param {unknown} instance
 * @param {string} type
 */
function isOfType(instance, type) {
  if (type === "array") return Array.isArray(instance);
  if (type === "object") return isObject(instance);
  if (type === "integer") return Number.isInteger(instance);
  return typeof instance === type;
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * @param {string | null} pattern
 * @param {string} text
 */
function isMatch(pattern, text) {
  if (pattern === null) throw new OnlyPythonKnows();
  const found = patterns.get(pattern) ?? new RegExp(pattern, "u");
  patterns.set(pattern, found);
  return found.test(text);
}
