// The allowed value nearest to a wrong one, found as the worker's `schema/value_text.py` finds it.

import { OnlyPythonKnows, SPACE, casefold, isLonger, strip, withAsciiDigits, withHyphens } from "./python_text.js";
import { shown } from "./value_text.js";

/** @import { ArgumentRules, ArgumentSchema } from "./types.d.ts" */

const NUMBER = "(\\p{Nd}{1,5}(?:\\.\\p{Nd}{1,4})?)";
const RATIO = new RegExp(`^${NUMBER}[${SPACE}]*[:：x×*/][${SPACE}]*${NUMBER}$`, "iu");
const PIXELS = new RegExp(`^(\\p{Nd}{1,5})[${SPACE}]*(k|px|p)?$`, "iu");
const LETTERS = /^\p{L}+$/u;
const SIMILAR = 0.6;
// From here on Python's difflib leaves out what is frequent.
const MAX_COMPARED = 200;

/**
 * Returns the allowed value most similar to the given one, or null if none is similar.
 *
 * @param {unknown} value
 * @param {string[]} options
 * @param {ArgumentRules} rules
 * @returns {string | null}
 */
export function nearest(value, options, rules) {
  const given = typeof value === "number" ? shown(value, rules) : value;
  if (typeof given !== "string" || isLonger(given, rules.limits.max_compared_chars)) return null;
  const text = strip(given);
  if (!text) return null;
  return nearestNumber(text, options, rules) ?? nearestText(text, options);
}

/**
 * Returns the bound that a number violates, or null.
 *
 * @param {unknown} value
 * @param {ArgumentSchema} schema
 */
export function nearestBound(value, { minimum, maximum }) {
  if (typeof value !== "number") return null;
  if (minimum !== undefined && value < minimum) return minimum;
  return maximum !== undefined && value > maximum ? maximum : null;
}

/**
 * @param {string} text
 * @param {string[]} options
 * @param {ArgumentRules} rules
 */
function nearestNumber(text, options, rules) {
  if (options.every((option) => ratioOf(option) !== null || LETTERS.test(option))) {
    const name = casefold(text);
    const named = Object.hasOwn(rules.named_ratios, name) ? rules.named_ratios[name] : undefined;
    const wanted = ratioOf(named ?? text);
    const ratios = options.filter((option) => ratioOf(option) !== null);
    if (wanted && ratios.length) return closest(ratios, (option) => Math.abs(Math.log((ratioOf(option) ?? 0) / wanted)));
  }
  if (!options.every((option) => pixelsOf(option) !== null)) return null;
  const wanted = pixelsOf(text);
  return wanted === null ? null : closest(options, (option) => Math.abs((pixelsOf(option) ?? 0) - wanted));
}

/**
 * Returns the first option with the smallest distance.
 *
 * @param {string[]} options
 * @param {(option: string) => number} distance
 */
function closest(options, distance) {
  let best = null;
  let least = Infinity;
  for (const option of options) {
    if (distance(option) < least) {
      best = option;
      least = distance(option);
    }
  }
  return best;
}

/** @param {string} text */
function ratioOf(text) {
  const [, width = "", height = ""] = RATIO.exec(text) ?? [];
  const [x, y] = [Number(withAsciiDigits(width)), Number(withAsciiDigits(height))];
  return x > 0 && y > 0 ? x / y : null;
}

/** @param {string} text */
function pixelsOf(text) {
  const [match, digits = "", unit = ""] = PIXELS.exec(text) ?? [];
  if (match === undefined) return null;
  const number = Number(withAsciiDigits(digits));
  const isKilo = casefold(unit) === "k" || (!unit && number < 100);
  return isKilo ? number * 1024 : number;
}

/**
 * @param {string} text
 * @param {string[]} options
 */
function nearestText(text, options) {
  const folded = new Map(options.map((option) => [withHyphens(casefold(option)), option]));
  const wanted = withHyphens(casefold(text));
  const same = folded.get(wanted);
  if (same !== undefined) return same;
  const letters = Array.from(wanted);
  const [within] = [...folded].filter(([key]) => key.includes(wanted));
  if (within && letters.length >= 3) return within[1];
  let best = null;
  let score = SIMILAR;
  for (const key of [...folded.keys()].sort()) {
    const found = similarity(Array.from(key), letters);
    if (found >= score) [best, score] = [folded.get(key) ?? null, found];
  }
  return best;
}

/**
 * Returns how alike two texts are, as `difflib.SequenceMatcher(None, a, b).ratio()`; 0 where they cannot be alike.
 *
 * @param {string[]} a
 * @param {string[]} b
 */
function similarity(a, b) {
  const ratioWith = (/** @type {number} */ matches) => (2 * matches) / (a.length + b.length);
  if (ratioWith(Math.min(a.length, b.length)) < SIMILAR) return 0;
  if (b.length >= MAX_COMPARED) throw new OnlyPythonKnows();
  let matches = 0;
  const open = [{ a, b }];
  for (let part = open.pop(); part; part = open.pop()) {
    const { i, j, size } = longestMatch(part.a, part.b);
    if (!size) continue;
    matches += size;
    open.push({ a: part.a.slice(0, i), b: part.b.slice(0, j) });
    open.push({ a: part.a.slice(i + size), b: part.b.slice(j + size) });
  }
  return ratioWith(matches);
}

/**
 * Returns the longest part that both have; of several, the first in `a`, then the first in `b`.
 *
 * @param {string[]} a
 * @param {string[]} b
 */
function longestMatch(a, b) {
  let best = { i: 0, j: 0, size: 0 };
  let before = Array(b.length + 1).fill(0);
  for (const [i, letter] of a.entries()) {
    const lengths = Array(b.length + 1).fill(0);
    for (const [j, other] of b.entries()) {
      if (letter !== other) continue;
      const size = before[j] + 1;
      lengths[j + 1] = size;
      if (size > best.size) best = { i: i - size + 1, j: j - size + 1, size };
    }
    before = lengths;
  }
  return best;
}
