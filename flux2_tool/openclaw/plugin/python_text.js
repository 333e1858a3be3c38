// Text and numbers as the worker's Python sees them: counted in code points, with Python's white space and digits.

/** Thrown where only the worker's Python can tell; the call is then passed on to it as it is. */
export class OnlyPythonKnows extends Error {}

/** The members of Python's `\s`; JavaScript's has other ones. */
export const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const IS_SPACE = new RegExp(`^[${SPACE}]$`, "u");
const SEPARATORS = new RegExp(`[${SPACE}_-]+`, "gu");
const UNPRINTABLE = /^[\p{C}\p{Z}]$/u;
const NOT_YET_ASSIGNED = /^(?=\p{Cn})[^\p{Noncharacter_Code_Point}\p{Default_Ignorable_Code_Point}]$/u;
const DIGIT = /^\p{Nd}$/u;

/**
 * Returns the number of code points.
 *
 * @param {string} text
 */
export function countOf(text) {
  let count = text.length;
  for (let index = 1; index < text.length; index++) {
    if (isLowHalf(text.charCodeAt(index)) && isHighHalf(text.charCodeAt(index - 1))) {
      count--;
      index++;
    }
  }
  return count;
}

/** @param {number} unit */
const isHighHalf = (unit) => unit >= 0xd800 && unit <= 0xdbff;

/** @param {number} unit */
const isLowHalf = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

/**
 * Returns the first code points of a text, however long it is.
 *
 * @param {string} text
 * @param {number} count
 */
export function headOf(text, count) {
  return Array.from(text.slice(0, 2 * count)).slice(0, count).join("");
}

/**
 * Returns whether a text has more code points than this, without counting all of them.
 *
 * @param {string} text
 * @param {number} count
 */
export function isLonger(text, count) {
  return text.length > 2 * count || countOf(text) > count;
}

/**
 * Returns text without white space at its ends, in linear time.
 *
 * @param {string} text
 */
export function strip(text) {
  let start = 0;
  let end = text.length;
  while (start < end && isSpace(text.charAt(start))) start++;
  while (end > start && isSpace(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}

/** @param {string} character */
export function isSpace(character) {
  return IS_SPACE.test(character);
}

/** @param {string} text */
export function withHyphens(text) {
  return text.replace(SEPARATORS, "-");
}

/**
 * Returns whether a character may stand in a message as it is; one of a later Unicode may.
 *
 * @param {string} character
 */
export function isPrintable(character) {
  return character === " " || !UNPRINTABLE.test(character) || NOT_YET_ASSIGNED.test(character);
}

/**
 * Returns text without letter case as `str.casefold` does, as far as ASCII letters and the length go.
 *
 * @param {string} text Short, for it is not quick.
 */
export function casefold(text) {
  // By character: a whole word's last sigma has a form of its own. The dotless i is the one that would become ASCII.
  const folded = (/** @type {string} */ c) => (c === "ı" ? c : c.toLowerCase().toUpperCase().toLowerCase());
  return Array.from(text, folded).join("");
}

/**
 * Returns text with ASCII digits for those of every script, which Python's `int` and `float` read.
 *
 * @param {string} text
 */
export function withAsciiDigits(text) {
  return text.replace(/\p{Nd}/gu, (digit) => {
    const code = codeOf(digit);
    let first = code;
    // Unicode has them in runs of ten.
    while (DIGIT.test(String.fromCodePoint(first - 1))) first--;
    return String((code - first) % 10);
  });
}

/** @param {string} character */
export function codeOf(character) {
  return character.codePointAt(0) ?? 0;
}

/**
 * Returns a number as Python writes it when it has come to the worker as JSON.
 *
 * @param {number} number
 */
export function numberText(number) {
  if (Number.isNaN(number)) return "nan";
  if (!Number.isFinite(number)) return number > 0 ? "inf" : "-inf";
  // JSON writes these without a point, so that Python reads a whole number.
  if (Number.isInteger(number) && Math.abs(number) < 1e21) return String(number);
  const [mantissa = "", power = ""] = number.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  return exponent < 0 ? number.toFixed(mantissa.replace(/[-.]/g, "").length - 1 - exponent) : String(number);
}
