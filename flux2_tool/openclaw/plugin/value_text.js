// A wrong value and what a schema allows, in the words of the worker's `schema/value_text.py`.

import { countOf, headOf, isLonger, isPrintable, codeOf, numberText } from "./python_text.js";
import { splitUrl } from "./split_url.js";

/** @import { ArgumentRules, ArgumentSchema, Limits } from "./types.d.ts" */

/**
 * Returns a value formatted for a message: JSON-like, printable, at most about 60 characters.
 *
 * @param {unknown} value
 * @param {ArgumentRules} rules
 * @returns {string}
 */
export function shown(value, rules) {
  if (typeof value === "string") return `"${shownText(value, rules.limits)}"`;
  if (typeof value === "boolean" || value === null) return String(value);
  return typeof value === "number" ? numberText(value) : kindOf(value);
}

/**
 * Returns text without a URL's secrets, cut to the limit, with unprintable characters escaped.
 *
 * @param {string} text
 * @param {Limits} limits
 * @param {number} [most]
 */
export function shownText(text, limits, most = limits.max_shown_chars) {
  if (text.length <= most && /^[ -~]*$/.test(text) && !text.includes("://")) return text;
  const plain = headOf(text, 40).includes("://") ? withoutUrlSecrets(text, limits) : text;
  const cut = isLonger(plain, most) ? `${headOf(plain, most - 1)}…` : plain;
  return Array.from(cut, (c) => (isPrintable(c) ? c : `\\u${codeOf(c).toString(16).padStart(4, "0")}`)).join("");
}

/**
 * Returns a URL, also one in another such as blob:https://…, with "***" for its user part and "…" for its query.
 *
 * @param {string} text
 * @param {Limits} limits
 */
function withoutUrlSecrets(text, limits) {
  if (!splitUrl(text, limits)) return `${text.slice(0, text.indexOf("://"))}://…`;
  const [plain = ""] = text.split("#", 1);
  const [place = ""] = plain.split("?", 1);
  const query = plain.slice(place.length + 1);
  return `${place.replace(/\/\/[^/?#]*@/g, "//***@")}${query ? "?…" : ""}`;
}

/**
 * Returns the kind of a value in JSON terms.
 *
 * @param {unknown} value
 */
export function kindOf(value) {
  if (typeof value === "boolean" || value === null) return String(value);
  if (typeof value === "number") return `the number ${numberText(value)}`;
  if (typeof value === "string") {
    const count = countOf(value);
    return `text of ${count} ${characters(count)}`;
  }
  return Array.isArray(value) ? `a list of ${value.length}` : "an object";
}

/**
 * Returns what a property's schema allows, worded to follow "must be".
 *
 * @param {ArgumentSchema} schema
 * @param {ArgumentRules} rules
 */
export function allowed(schema, rules) {
  if (schema.enum) return `one of ${schema.enum.join(", ")}`;
  if (schema.type === "array") {
    return `a list of ${span(schema.minItems, schema.maxItems)}${itemsOf(schema.items ?? {})}`;
  }
  if (schema["x-allowed"] !== undefined) return schema["x-allowed"];
  if (schema.type === "string") {
    const length = span(schema.minLength, schema.maxLength);
    return length ? `text of ${length}${characters(schema.maxLength ?? schema.minLength)}` : "text";
  }
  const word = rules.type_words[schema.type ?? ""] ?? "something else";
  return schema.type === "number" || schema.type === "integer" ? `${word} ${bounds(schema)}`.trimEnd() : word;
}

/** @param {number | undefined} count */
function characters(count) {
  return count === 1 ? "character" : "characters";
}

/** @param {ArgumentSchema} schema */
function itemsOf(schema) {
  if (schema.enum) return schema.enum.join(", ");
  if (schema.type === "string") return "texts";
  return schema.type === "number" ? "numbers" : "values";
}

/**
 * @param {number | undefined} low
 * @param {number | undefined} high
 */
function span(low, high) {
  if (low !== undefined && high !== undefined) return `${low} to ${high} `;
  if (high !== undefined) return `at most ${high} `;
  return low === undefined ? "" : `at least ${low} `;
}

/** @param {ArgumentSchema} schema */
function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `from ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `of at least ${minimum}`;
  return maximum === undefined ? "" : `of at most ${maximum}`;
}
