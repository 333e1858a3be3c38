// Judges a call's arguments before OpenClaw does, with the rules and the words of the worker's `schema/validation.py`.
//
// OpenClaw's own check turns 12345 into "12345" and answers a wrong value with "must be equal to one of the allowed
// values"; what is thrown here reaches the model word for word. A call that only the worker's Python can judge passes.
// What is generated from the manifest is described in `openclaw/argument_rules.py`.

import { faultsOf, invisible } from "./argument_faults.js";
import { explain, failure } from "./failure.js";
import { asMeant } from "./given_arguments.js";
import { errorsOf, isObject } from "./json_schema.js";
import { nearest } from "./nearest.js";
import { OnlyPythonKnows, casefold, countOf, headOf, isLonger, strip } from "./python_text.js";
import { hostOf, splitUrl } from "./split_url.js";
import { enabledModels, nearText, violationsOf, withoutRepeats } from "./violations.js";
import { kindOf, shown, shownText } from "./value_text.js";

/** @import { Bundle, BundledTool, Failure, Logger, Settings, Violation } from "./types.d.ts" */
/** @import { Judged } from "./violations.js" */

// The longest name with advice is shorter.
const MAX_ADVISED_CHARS = 100;
const SOURCES = "source_image_urls";

/**
 * Returns a call's arguments as they are meant; throws what the model is to read when they are wrong.
 *
 * @param {unknown} given
 * @param {BundledTool} tool
 * @param {Bundle} bundle
 * @param {Settings} settings
 * @param {Logger} logger
 */
export function preparedArguments(given, tool, bundle, settings, logger) {
  const { args, isExact } = asMeant(given, tool.rules.schema);
  let refusal = null;
  try {
    const tiers = settings.tiers ?? bundle.default_tiers;
    refusal = refusalOf({ tool: tool.name, own: tool.rules, rules: bundle.argument_rules, tiers }, args, settings);
  } catch (error) {
    // The worker judges every call; a defect here must not stop one that is right.
    if (!(error instanceof OnlyPythonKnows)) logger.warn(`flux2: ${tool.name}: ${error instanceof Error ? error.stack : error}`);
  }
  if (refusal && isExact) throw new Error(explain(refusal));
  return args;
}

/**
 * @param {Judged} judged
 * @param {unknown} args
 * @param {Settings} settings
 * @returns {Failure | null}
 */
function refusalOf(judged, args, settings) {
  const { tool, own, rules } = judged;
  if (!isObject(args)) {
    const text = `the arguments of ${tool} must be an object such as ${own.example}, not ${kindOf(args)}`;
    return failure("invalid_arguments", text, "give an object with named arguments");
  }
  const texts = [...new Set(violations(judged, args, settings).map(({ text }) => text))];
  if (!texts.length) return null;
  const hint = `correct this and call ${tool} again; nothing was sent`;
  return failure("invalid_arguments", messageOf(tool, texts, rules.limits.max_message_chars), hint);
}

/**
 * @param {string} tool
 * @param {string[]} texts
 * @param {number} most
 */
function messageOf(tool, texts, most) {
  const [first = "", ...others] = texts;
  if (!others.length) return headOf(first, most);
  let message = `${texts.length} things are wrong with the arguments of ${tool}:`;
  for (const [index, text] of texts.entries()) {
    const item = ` ${index + 1}. ${text};`;
    if (countOf(message) + countOf(item) > most - 40) return `${message} … and ${texts.length - index} more`;
    message += item;
  }
  return message.slice(0, -1);
}

/**
 * Returns every violation, in the worker's order.
 *
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @param {Settings} settings
 */
function violations(judged, args, settings) {
  const { own, rules } = judged;
  const properties = own.schema.properties ?? {};
  const isKnown = (/** @type {string} */ name) => Object.hasOwn(properties, name);
  const names = Object.keys(args);
  const unknown = names
    .filter((name) => !isKnown(name))
    .map((name, index) => unknownName(judged, name, index < rules.limits.max_violations));
  const faults = names.filter(isKnown).flatMap((name) => faultsOf(args[name], name, judged));
  const unreadable = new Set(faults.filter(({ kind }) => kind === "unreadable").map(({ path }) => path));
  const readable = members(args, (name) => isKnown(name) && !unreadable.has(name));
  const seen = new Set(faults.map(({ path }) => path));
  const found = [...errorsOf(own.schema, readable)]
    .flatMap((error) => violationsOf(judged, readable, unreadable, error))
    .filter(({ path }) => !seen.has(path));
  const unseen = invisible(judged, members(readable, (name) => !seen.has(name)));
  const faulty = new Set([...faults, ...found].map(({ path }) => path.split("[", 1)[0]));
  const right = members(readable, (name) => !faulty.has(name));
  return [...unknown, ...faults, ...withoutRepeats(found), ...unseen, ...operatorViolations(judged, right, settings)];
}

/**
 * @param {Record<string, unknown>} args
 * @param {(name: string) => boolean} isWanted
 */
function members(args, isWanted) {
  return Object.fromEntries(Object.entries(args).filter(([name]) => isWanted(name)));
}

/**
 * @param {Judged} judged
 * @param {string} name
 * @param {boolean} withAdvice
 * @returns {Violation}
 */
function unknownName({ tool, own, rules }, name, withAdvice) {
  const text = `unknown argument "${shownText(name, rules.limits)}"`;
  const violation = { path: name, kind: "unknown", text, narrow: false };
  if (!withAdvice) return violation;
  const stripped = strip(name);
  const key = isLonger(stripped, MAX_ADVISED_CHARS) ? "" : casefold(stripped).replace(/[- ]/g, "_");
  const advised = Object.entries(own.advice).find(([, others]) => others.includes(key));
  const near = nearText(nearest(name, Object.keys(own.schema.properties ?? {}), rules));
  return { ...violation, text: `${text}: ${advised?.[0] ?? `${tool} takes ${own.public_names.join(", ")}${near}`}` };
}

/**
 * Returns what the operator's settings do not allow of arguments that match the schema.
 *
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @param {Settings} settings
 * @returns {Violation[]}
 */
function operatorViolations(judged, args, settings) {
  const { operator, limits } = judged.rules;
  const found = [...tierViolations(judged, args), ...urlViolations(judged, args)];
  const add = (/** @type {string} */ path, /** @type {string} */ text) =>
    found.push({ path, kind: "operator", text, narrow: false });
  if (args.enable_safety_checker === false && settings.safety_checker !== false) {
    const text = "enable_safety_checker false is the operator's decision, not an agent's; leave it out";
    add("enable_safety_checker", `${text} ${operator.safety_checker}`);
  }
  const url = args.callback_url;
  if (typeof url === "string" && !found.some(({ path }) => path === "callback_url")) {
    const parts = splitUrl(url, limits);
    const host = ((parts && hostOf(parts)?.host) ?? "").replace(/\.+$/, "");
    const hosts = (settings.callback_hosts ?? []).map((allowed) => allowed.toLowerCase());
    const text = `the host "${shownText(host, limits)}" is not allowed; allowed hosts: ${hosts.join(", ") || "none"}`;
    if (!hosts.includes(host)) add("callback_url", `callback_url: ${text} ${operator.callback_host}`);
  }
  return found;
}

/**
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @returns {Violation[]}
 */
function tierViolations({ own, rules, tiers }, args) {
  const model = Object.hasOwn(args, "model") ? args.model : own.default_model;
  const tier = typeof model === "string" && Object.hasOwn(own.tiers, model) ? own.tiers[model] : undefined;
  if (tier === undefined || tiers.includes(tier)) return [];
  const who = Object.hasOwn(args, "model") ? "model" : "model is missing and the default";
  const remedy = rules.operator.tier.replace("{tier}", () => tier);
  const enabled = enabledModels(own, tiers).join(", ") || "none";
  const text = `${who} ${model} is not enabled here; enabled: ${enabled} ${remedy}`;
  return [{ path: "model", kind: "operator", text, narrow: false }];
}

/**
 * Returns the URLs without a usable host or port, which a pattern cannot detect.
 *
 * @param {Judged} judged
 * @param {Record<string, unknown>} args
 * @returns {Violation[]}
 */
function urlViolations({ rules }, args) {
  const sources = Array.isArray(args[SOURCES]) ? args[SOURCES] : [];
  const urls = sources.map((url, index) => [`${SOURCES}[${index}]`, url]);
  if (Object.hasOwn(args, "callback_url")) urls.push(["callback_url", args.callback_url]);
  return urls.flatMap(([path, value]) => {
    const url = strip(value);
    if (!/^https?:/i.test(url)) return [];
    const parts = splitUrl(url, rules.limits);
    const host = parts && hostOf(parts);
    if (host?.host && host.hasPort) return [];
    const most = rules.limits.max_url_chars;
    const wrong = isLonger(url, most)
      ? `has ${countOf(url)} characters; at most ${most} are allowed`
      : "has no usable host or port";
    const text = `${path} ${shown(url, rules)} ${wrong}`;
    return [{ path, kind: "url", text, narrow: false }];
  });
}
