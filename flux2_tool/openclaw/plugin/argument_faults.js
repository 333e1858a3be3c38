// Values that cannot be sent as JSON, and texts in which nothing can be seen, as the worker's
// `schema/argument_faults.py` and `schema/validation.py` find them.

import { OnlyPythonKnows, codeOf, countOf, headOf, isSpace, strip } from "./python_text.js";
import { allowed, shownText } from "./value_text.js";

/** @import { ArgumentRules, Limits, Violation } from "./types.d.ts" */
/** @import { Judged } from "./violations.js" */

const MAX_PATH_CHARS = 80;
const MAX_LISTED = 5;
const UNREADABLE = "unreadable";
const LONE_SURROGATE =
  "has half of a character pair (a lone surrogate), or bytes that are no UTF-8, which cannot be sent; " +
  "write it again, or rename the file";
const LETTER_OR_SYMBOL = /^[\p{L}\p{N}\p{P}\p{S}]$/u;
const UNASSIGNED = /^\p{Cn}$/u;
// Nobody sees these, and no later version of Unicode gives them a mark.
const NEVER_VISIBLE = /^[\p{Cc}\p{Co}\p{Zs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]$/u;

/**
 * Returns why a value cannot be sent as JSON; not recursive, because it may be nested deep.
 *
 * @param {unknown} value
 * @param {string} name
 * @param {Judged} judged
 * @returns {Violation[]}
 */
export function faultsOf(value, name, { own, rules }) {
  const { limits } = rules;
  const schema = own.schema.properties?.[name] ?? {};
  // Which of the choices are enabled is not known here.
  const must = schema.enum ? "" : `; it must be ${allowed(schema, rules)}`;
  /** @type {[unknown, string, number][]} */
  const stack = [[value, name, 1]];
  /** @type {Violation[]} */
  const faults = [];
  const add = (/** @type {string} */ path, /** @type {string} */ kind, /** @type {string} */ wrong) => {
    const text = `${shownText(path, limits, MAX_PATH_CHARS)} ${wrong}`;
    faults.push({ path: kind === UNREADABLE ? name : path, kind, text, narrow: false });
  };
  let seen = 0;
  for (let next = stack.pop(); next; next = stack.pop()) {
    const [item, path, depth] = next;
    seen++;
    if (depth > limits.max_depth) {
      add(path, UNREADABLE, `is nested deeper than ${limits.max_depth} levels`);
      break;
    }
    if (seen > limits.max_values) {
      add(name, UNREADABLE, `holds more than ${limits.max_values} values${must}`);
      break;
    }
    const wrong = endless(item, path === name ? must : "") ?? unsendable(item);
    if (wrong) add(path, "unsendable", wrong);
    if (Array.isArray(item)) {
      const parts = item.slice(0, limits.max_values + 1);
      for (const [index, part] of parts.entries()) stack.push([part, `${path}[${index}]`, depth + 1]);
    } else if (item !== null && typeof item === "object") {
      pushMembers(stack, item, path, depth + 1, limits);
    }
  }
  return faults;
}

/**
 * @param {[unknown, string, number][]} stack
 * @param {object} item
 * @param {string} path
 * @param {number} depth
 * @param {Limits} limits
 */
function pushMembers(stack, item, path, depth, limits) {
  for (const [key, part] of Object.entries(item).slice(0, limits.max_values + 1)) {
    stack.push([key, `a name in ${path}`, depth]);
    // Cut, because every value below it repeats the name.
    stack.push([part, `${path}.${headOf(key, limits.max_name_chars)}`, depth]);
  }
}

/**
 * Returns what is wrong with a number beyond those of JSON's readers.
 *
 * @param {unknown} item
 * @param {string} must
 */
function endless(item, must) {
  if (item !== Infinity && item !== -Infinity) return null;
  return `is a number that is too ${item > 0 ? "large" : "small"}${must}`;
}

/** @param {unknown} item */
function unsendable(item) {
  if (item === null) return "is null; leave it out instead";
  if (Number.isNaN(item)) return "is nan, which is no number JSON can carry";
  if (typeof item === "string") {
    if (!item.isWellFormed()) return LONE_SURROGATE;
    const index = item.indexOf("\0");
    if (index < 0) return null;
    const position = countOf(item.slice(0, index)) + 1;
    return `has a NUL character (U+0000) at position ${position}; write the text without it`;
  }
  // No value of JSON: how it would reach the worker is not known here.
  if (!["boolean", "number", "object"].includes(typeof item)) throw new OnlyPythonKnows();
  return null;
}

/**
 * Returns the texts that are not blank, but of whose characters none can be seen.
 *
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @returns {Violation[]}
 */
export function invisible({ own, rules }, args) {
  return own.visible.flatMap((path) => {
    const text = args[path];
    if (typeof text !== "string" || !strip(text) || hasVisible(text, rules)) return [];
    const codes = [...new Set(text)].filter((c) => !isSpace(c)).map((c) => codeOf(c).toString(16).toUpperCase());
    const listed = codes.slice(0, MAX_LISTED).map((code) => `U+${code.padStart(4, "0")}`).join(", ");
    const more = codes.length > MAX_LISTED ? ", …" : "";
    const must = allowed(own.schema.properties?.[path] ?? {}, rules);
    const wrong = `has only invisible characters (${listed}${more}); it must be ${must}`;
    return [{ path, kind: "pattern", text: `${path} ${wrong}`, narrow: false }];
  });
}

/**
 * Returns whether anything of a text can be seen. A mark or a control that an older Unicode does not know counts as a
 * new emoji for the worker's Python, whose version is not known here.
 *
 * @param {string} text
 * @param {ArgumentRules} rules
 */
function hasVisible(text, rules) {
  let isKnown = true;
  for (const character of text) {
    const code = codeOf(character);
    const isListed = rules.invisible.some(([first, last]) => first <= code && code <= last);
    const isHidden = isListed || NEVER_VISIBLE.test(character);
    if (!isHidden && (LETTER_OR_SYMBOL.test(character) || UNASSIGNED.test(character))) return true;
    isKnown &&= isHidden;
  }
  if (!isKnown) throw new OnlyPythonKnows();
  return false;
}
