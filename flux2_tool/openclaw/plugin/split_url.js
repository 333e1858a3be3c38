// A URL's parts as the worker's `_net.split_url` and Python's `urlsplit` give them.

import { isIPv6 } from "node:net";

import { OnlyPythonKnows, countOf, isLonger } from "./python_text.js";

/** @import { Limits, UrlParts } from "./types.d.ts" */

const SCHEME = /^([A-Za-z][A-Za-z0-9+.-]*):/;
const IN_BRACKETS = /^(?:[^[\]]*@)?\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?$/;
// What an authority must not contain after normalization, because another program would end it there.
const DELIMITER = /[/?#@:]/;

/**
 * Returns a URL's parts, or null where Python raises ValueError.
 *
 * @param {string} text
 * @param {Limits} limits
 * @returns {UrlParts | null}
 */
export function splitUrl(text, limits) {
  if (isLonger(text, limits.max_url_chars)) return null;
  const [authority = ""] = textAfter(text, "//").split(/[/?#]/, 1);
  if (countOf(authority) > limits.max_unicode_authority_chars && !isAscii(authority)) return null;
  let rest = withoutLeadingControls(text).replace(/[\t\r\n]/g, "");
  const scheme = SCHEME.exec(rest)?.[1] ?? "";
  if (scheme) rest = rest.slice(scheme.length + 1);
  let netloc = "";
  if (rest.startsWith("//")) {
    [netloc = ""] = rest.slice(2).split(/[/?#]/, 1);
    rest = rest.slice(2 + netloc.length);
    if (!isNetloc(netloc)) return null;
  }
  const [beforeFragment = ""] = rest.split("#", 1);
  const [path = ""] = beforeFragment.split("?", 1);
  return { scheme: scheme.toLowerCase(), netloc, path, query: beforeFragment.slice(path.length + 1) };
}

/**
 * Returns the host, and whether the port is one that can be connected to; null where Python raises ValueError.
 *
 * @param {UrlParts} parts
 */
export function hostOf({ netloc }) {
  const server = netloc.slice(netloc.lastIndexOf("@") + 1);
  const [, address] = IN_BRACKETS.exec(server) ?? [];
  const [host = ""] = address === undefined ? server.split(":", 1) : [address];
  const port = server.slice(host.length + (address === undefined ? 1 : "[]:".length));
  if (port && !/^[0-9]+$/.test(port)) return null;
  if (Number(port) > 65_535) return null;
  const [name = ""] = host.split("%", 1);
  return { host: name.toLowerCase() + host.slice(name.length), hasPort: !port || Number(port) !== 0 };
}

/** @param {string} netloc */
function isNetloc(netloc) {
  const hasStart = netloc.includes("[");
  if (hasStart !== netloc.includes("]")) return false;
  if (hasStart && !isIPv6(IN_BRACKETS.exec(netloc)?.[1] ?? "")) {
    // What else may stand in brackets depends on Python's version.
    throw new OnlyPythonKnows();
  }
  if (isAscii(netloc)) return true;
  const plain = netloc.replace(/[@:#?]/g, "");
  const normalized = plain.normalize("NFKC");
  return normalized === plain || !DELIMITER.test(normalized);
}

/**
 * @param {string} text
 * @param {string} separator
 */
function textAfter(text, separator) {
  const index = text.indexOf(separator);
  return index < 0 ? "" : text.slice(index + separator.length);
}

/** @param {string} text */
function withoutLeadingControls(text) {
  let start = 0;
  while (start < text.length && text.charCodeAt(start) <= 0x20) start++;
  return text.slice(start);
}

/** @param {string} text */
function isAscii(text) {
  return !/[^\0-\x7f]/.test(text);
}
