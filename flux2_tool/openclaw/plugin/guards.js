// What guards money among the settings: which of two values is the stricter, as `schema/guards.py` finds it.

/** @import { SettingRule, SettingRules, Settings } from "./types.d.ts" */

/** Takes the place of a secret's value; the worker refuses it (`schema/guards.py`). */
const MASK = "…";

/**
 * Returns a config's value of a setting, else its default.
 *
 * @param {Settings} config
 * @param {SettingRules} rules
 * @param {string} name
 */
export function valueOf(config, rules, name) {
  return config[name] ?? rules[name]?.default;
}

/**
 * Returns whether a value guards less than another; one of the wrong type is not compared.
 *
 * @param {unknown} before
 * @param {unknown} after
 * @param {SettingRule} rule
 */
export function isLooser(before, after, { guards, order = [] }) {
  if (guards === "lower" || guards === "higher") {
    const sign = guards === "lower" ? 1 : -1;
    const [old, now] = [before, after].map((value) => (value === undefined ? sign * Infinity : value));
    return typeof old === "number" && typeof now === "number" && sign * now > sign * old;
  }
  if (guards === "first") {
    const [old, now] = [before, after].map((value) => order.indexOf(String(value)));
    return old !== undefined && now !== undefined && old >= 0 && now > old;
  }
  if (guards === "fewer") return Array.isArray(before) && Array.isArray(after) && !after.every((one) => before.includes(one));
  return guards === "same" && before !== undefined && after === undefined;
}

/**
 * Returns the settings of `config` that guard less than those of `before`.
 *
 * @param {Settings} before
 * @param {Settings} config
 * @param {SettingRules} rules
 */
export function loosened(before, config, rules) {
  return Object.keys(rules).filter((name) => {
    const rule = rules[name];
    return rule && isLooser(valueOf(before, rules, name), valueOf(config, rules, name), rule);
  });
}

/**
 * Returns a config in which nothing guards less than in another.
 *
 * @param {Settings} config
 * @param {Settings} other
 * @param {SettingRules} rules
 * @returns {Settings}
 */
export function strictest(config, other, rules) {
  const stricter = loosened(other, config, rules).map((name) => {
    const [mine, theirs] = [valueOf(config, rules, name), valueOf(other, rules, name)];
    return [name, rules[name]?.guards === "fewer" ? common(mine, theirs) : theirs];
  });
  return stricter.length ? { ...config, ...Object.fromEntries(stricter) } : config;
}

/**
 * Returns what two lists have in common; where that is nothing, neither is the stricter, and the first stays.
 *
 * @param {unknown} first
 * @param {unknown} second
 */
function common(first, second) {
  if (!Array.isArray(first) || !Array.isArray(second)) return first;
  const both = first.filter((one) => second.includes(one));
  return both.length ? both : first;
}

/**
 * Returns a setting's value as JSON for messages, never a secret.
 *
 * @param {unknown} value
 * @param {SettingRule | undefined} rule
 */
export function shownValue(value, rule) {
  return (value !== undefined && rule?.sensitive ? MASK : JSON.stringify(value)) ?? "unset";
}

/**
 * Returns the values of what guards money that are not the defaults; of a secret only that there is one.
 *
 * @param {Settings} config
 * @param {SettingRules} rules
 * @returns {Settings}
 */
export function guardsOf(config, rules) {
  const set = Object.entries(rules).filter(([name, rule]) => rule.guards && !isDefault(config[name], rule));
  return Object.fromEntries(set.map(([name, rule]) => [name, rule.sensitive ? MASK : config[name]]));
}

/**
 * @param {unknown} value
 * @param {SettingRule} rule
 */
function isDefault(value, rule) {
  return value === undefined || JSON.stringify(value) === JSON.stringify(rule.default);
}
