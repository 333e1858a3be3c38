// A schema's errors as the sentences of the worker's `schema/violations.py`.

import { SPACE, codeOf, countOf, strip } from "./python_text.js";
import { nearest, nearestBound } from "./nearest.js";
import { allowed, kindOf, shown } from "./value_text.js";

/** @import { ArgumentRules, SchemaError, ToolRules, Violation } from "./types.d.ts" */

const SOURCES = "source_image_urls[";
const CONTROL = "\\0-\\x1f";
const CONTROLS = new RegExp(`[${CONTROL}]`, "u");
const NOT_IN_LINKS = new RegExp(`[${CONTROL}${SPACE}]`, "u");
/** @type {Record<string, string>} */
const NAMED = { "\t": "a tab", "\n": "a line break", "\r": "a line break", " ": "a space" };

/**
 * @typedef {object} Judged A call whose arguments are judged.
 * @property {string} tool
 * @property {ToolRules} own The tool's rules.
 * @property {ArgumentRules} rules Those of all tools.
 * @property {string[]} tiers The enabled ones.
 */

/**
 * Returns the violations without those that a more specific one at the same path covers.
 *
 * @param {Violation[]} found
 */
export function withoutRepeats(found) {
  const narrowed = new Set(found.filter(({ narrow }) => narrow).map(({ path, kind }) => `${path} ${kind}`));
  const settled = new Map();
  for (const { path, kind } of found) {
    if (kind === "type" || kind === "minLength") settled.set(path, kind);
  }
  return found.filter(({ path, kind, narrow }) => {
    const isGeneral = !narrow && narrowed.has(`${path} ${kind}`);
    return !isGeneral && (settled.get(path) ?? kind) === kind;
  });
}

/**
 * Returns the violations of one error.
 *
 * @param {Judged} judged
 * @param {Record<string, unknown>} args What was checked.
 * @param {Set<string>} unreadable Names that were left out of the check, and are not missing.
 * @param {SchemaError} error
 * @returns {Violation[]}
 */
export function violationsOf(judged, args, unreadable, error) {
  const { keyword, narrow } = error;
  const model = Object.hasOwn(args, "model") ? args.model : judged.own.default_model;
  if (keyword === "required") return missing(judged, args, unreadable, error, String(model));
  const path = error.path.reduce((/** @type {string} */ found, part) => {
    if (typeof part === "number") return `${found}[${part}]`;
    return found ? `${found}.${part}` : part;
  }, "");
  const text = narrow ? modelSentence(judged, error, path, String(model)) : sentence(judged, error, path);
  return [{ path, kind: keyword, text, narrow }];
}

/**
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @param {Set<string>} unreadable
 * @param {SchemaError} error
 * @param {string} model
 */
function missing({ tool, own, rules }, args, unreadable, { value, schema, narrow }, model) {
  const names = /** @type {string[]} */ (value).filter((name) => !Object.hasOwn(args, name) && !unreadable.has(name));
  return names.map((name) => {
    const part = { ...own.schema.properties?.[name], ...(narrow ? schema.properties?.[name] : {}) };
    const who = narrow ? `${model} requires ${name}` : `${name} is missing; ${tool} requires it`;
    return { path: name, kind: `required ${name}`, text: `${who}: ${allowed(part, rules)}`, narrow };
  });
}

/**
 * @param {Judged} judged
 * @param {SchemaError} error
 * @param {string} path
 */
function sentence({ own, rules, tiers }, { keyword, schema: part, instance }, path) {
  const enabled = path === "model" ? enabledModels(own, tiers) : [];
  const schema = enabled.length ? { ...part, enum: enabled } : part;
  const given = /** @type {any} */ (instance);
  const must = () => allowed(schema, rules);
  switch (keyword) {
    case "enum":
      return `${path} ${shown(given, rules)} is not ${must()}${nearText(nearest(given, schema.enum ?? [], rules))}`;
    case "type":
      return `${path} must be ${must()}, not ${kindOf(given)}`;
    case "minimum":
    case "maximum":
      return `${path} ${shown(given, rules)} is not ${must()}${nearText(nearestBound(given, schema))}`;
    case "minLength":
      return `${path} is empty; it must be ${must()}`;
    case "maxLength":
      return `${path} has ${countOf(given)} characters; at most ${schema.maxLength} are allowed`;
    case "pattern":
      if (!strip(given)) return `${path} is only white space; it must be ${must()}`;
      return patternSentence(path, given, must(), rules);
    case "minItems":
    case "maxItems":
      return `${path} has ${given.length}; ${must()} is allowed${nearText(schema[keyword] ?? null)}`;
    default:
      return `${path} is not ${must()}`;
  }
}

/**
 * @param {string} path
 * @param {string} given
 * @param {string} must
 * @param {ArgumentRules} rules
 */
function patternSentence(path, given, must, rules) {
  const reason = path.startsWith(SOURCES) ? noSource(given) : null;
  return `${path} ${shown(given, rules)} ${reason === null ? `is not ${must}` : `${reason}; it must be ${must}`}`;
}

/**
 * Returns why a text is no source picture, where that can be told; it follows the text in a sentence.
 *
 * @param {string} text
 */
function noSource(text) {
  const trimmed = strip(text);
  if (/^[A-Za-z]:[\\/]/.test(trimmed)) return "is a path of Windows, which cannot be opened here (in WSL, wslpath translates it)";
  if (/^data:/i.test(trimmed)) return `${dataFault(trimmed)}; write it as "data:image/png;base64,…"`;
  const isLink = /^https?:/i.test(trimmed);
  const index = trimmed.search(isLink ? NOT_IN_LINKS : CONTROLS);
  if (index < 0) return null;
  const character = trimmed.charAt(index);
  const code = codeOf(character).toString(16).toUpperCase().padStart(4, "0");
  const what = NAMED[character] ?? `a character that it must not have (U+${code})`;
  const position = countOf(text.slice(0, text.indexOf(trimmed) + index)) + 1;
  const ofLink = character === " " ? "write it as %20" : "write the link without it";
  return `has ${what} at position ${position}; ${isLink ? ofLink : "rename the file"}`;
}

/** @param {string} url */
function dataFault(url) {
  const comma = url.indexOf(",");
  if (comma < 0) return "has no comma before its data";
  return comma === url.length - 1 ? "has no data after its comma" : "has too much before its comma";
}

/**
 * @param {Judged} judged
 * @param {SchemaError} error
 * @param {string} path
 * @param {string} model
 */
function modelSentence({ rules }, { keyword, value, instance }, path, model) {
  const bound = /** @type {any} */ (value);
  if (keyword === "not") return `${model} does not take ${path}; leave it out`;
  if (keyword === "enum") {
    const near = nearText(nearest(instance, bound, rules));
    return `${model} takes ${path} ${bound.join(", ")} only, not ${shown(instance, rules)}${near}`;
  }
  if (keyword === "maxItems" && Array.isArray(instance)) {
    const amount = bound === 1 ? "exactly 1 source picture" : `at most ${bound} source pictures`;
    return `${model} takes ${amount}, ${instance.length} were given (${path})`;
  }
  return `${model} does not take this ${path}`;
}

/**
 * @param {ToolRules} own
 * @param {string[]} tiers
 */
export function enabledModels(own, tiers) {
  return Object.keys(own.tiers).filter((model) => tiers.includes(own.tiers[model] ?? ""));
}

/** @param {string | number | null} value */
export function nearText(value) {
  return value === null ? "" : ` (nearest: ${value})`;
}
