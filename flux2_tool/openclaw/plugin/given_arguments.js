// A call's arguments as they were meant, as the worker's `schema/given_arguments.py` reads them.

import { isObject } from "./json_schema.js";

/** @import { ArgumentSchema } from "./types.d.ts" */

// Python's own limit is somewhere above; nothing that is meant is as deep.
const MAX_TEXT_DEPTH = 100;

/**
 * Returns the arguments without null members, which mean "not given", and with values for texts that are exactly the JSON
 * of the type that the schema wants; `isExact` tells whether the worker's Python would have the same numbers in them.
 *
 * @param {unknown} args
 * @param {ArgumentSchema} schema
 */
export function asMeant(args, schema) {
  if (!isObject(args)) return { args: args ?? null, isExact: true };
  const properties = schema.properties ?? {};
  let isExact = true;
  const given = Object.entries(args).filter(([, value]) => value !== null && value !== undefined);
  const meant = given.map(([name, value]) => {
    const wanted = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
    const found = wanted && typeof value === "string" ? jsonValue(value, wanted) : null;
    if (!found) return [name, value];
    isExact &&= found.isExact;
    return [name, found.value];
  });
  return { args: Object.fromEntries(meant), isExact };
}

/**
 * @param {string} text
 * @param {string} wanted
 */
function jsonValue(text, wanted) {
  if (!["array", "number", "integer", "boolean"].includes(wanted)) return null;
  const value = parsed(text);
  const isWanted = wanted === "array" ? Array.isArray(value) : typeof value === (wanted === "boolean" ? wanted : "number");
  const isWhole = wanted !== "integer" || /^\s*-?[0-9]+\s*$/.test(text);
  if (!isWanted || !isWhole) return null;
  return isDeep(value) ? { value: text, isExact: false } : { value, isExact: isExactly(value, text) };
}

/**
 * @param {string} text
 * @returns {unknown}
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Returns whether a value is nested deeper than Python may read; not recursive.
 *
 * @param {unknown} value
 */
function isDeep(value) {
  let depth = 0;
  for (let level = [value]; level.length && depth <= MAX_TEXT_DEPTH; depth++) level = level.flatMap(membersOf);
  return depth > MAX_TEXT_DEPTH;
}

/** @param {unknown} value */
function membersOf(value) {
  return value !== null && typeof value === "object" ? Object.values(value) : [];
}

/**
 * @param {unknown} value One that is not deep.
 * @returns {boolean}
 */
function hasNumbers(value) {
  return typeof value === "number" || membersOf(value).some(hasNumbers);
}

/**
 * Returns whether Python reads the same from a text: there 5.0 keeps its point, and a long number its digits.
 *
 * @param {unknown} value What JavaScript has read from it; not deep.
 * @param {string} text
 */
function isExactly(value, text) {
  if (typeof value === "number" && !Number.isFinite(value)) return /[.e]/i.test(text);
  return !hasNumbers(value) || withoutBlanks(JSON.stringify(value)) === withoutBlanks(text);
}

/** @param {string} json */
function withoutBlanks(json) {
  return json.replace(/[ \t\r\n]/g, "");
}
