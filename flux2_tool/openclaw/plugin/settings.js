// The settings in force, and how the worker is launched under them.
//
// They are read anew for every call from the config that OpenClaw has now. A change of them reloads nothing
// (`registerReload`): OpenClaw would refuse that while a call waits, and never try again. What guards money never becomes
// looser by an accident: an entry that is gone leaves the last settings in force, one that was emptied while the plugin
// did not run those of its record, and of a config that is saved but not yet in force the stricter values hold.

import { stateFolderOf } from "./folders.js";
import { guardsOf, loosened, shownValue, strictest, valueOf } from "./guards.js";
import { nearest } from "./nearest.js";
import { readRecord, writeRecord } from "./record.js";
import { savedEntry } from "./saved.js";
import { pythonKey, shared } from "./shared.js";

/** @import { ArgumentRules, Bundle, Launch, OpenClawConfig, PluginApi, Settings, SettingRules } from "./types.d.ts" */

const ID = "flux2";
const MAX_COMPARED = 100;
const CONFIG = `plugins.entries.${ID}.config`;
export const SET_PYTHON = `openclaw config set ${CONFIG}.python /path/of/the/python/that/has/flux2-tool`;

/**
 * @typedef {object} State What is known of one registration's settings.
 * @property {SettingRules} rules
 * @property {ArgumentRules} words For the setting nearest to an unknown one.
 * @property {Settings} registered As they were when the plugin was registered.
 * @property {Settings} accepted The last that OpenClaw accepted.
 * @property {Settings} kept What the record keeps in force, because nothing in the config guards money any more.
 */

/** @type {WeakMap<PluginApi, State>} */
const states = new WeakMap();

/**
 * Begins to follow the settings of a registration; the first thing that a registration does.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 */
export function followSettings(api, { settings: rules, argument_rules: words }) {
  const accepted = currentConfig(api) ?? api.pluginConfig ?? {};
  const set = Object.keys(guardsOf(accepted, rules));
  const { guards, kept: names } = readRecord(api) ?? { guards: {}, kept: [] };
  // A config that guards money was not emptied, and says what is meant but for what was kept before.
  const lost = loosened(guards, accepted, rules).filter((name) =>
    set.length > 0 ? names.includes(name) && !set.includes(name) : true,
  );
  const kept = Object.fromEntries(lost.map((name) => [name, valueOf(guards, rules, name)]));
  states.set(api, { rules, words, registered: accepted, accepted, kept });
  api.registerReload?.({ noopPrefixes: [CONFIG] });
}

/**
 * Returns the settings in force, which OpenClaw has checked against the plugin's configSchema.
 *
 * @param {PluginApi} api
 * @returns {Settings}
 */
export function settingsOf(api) {
  const state = states.get(api);
  if (!state) return api.pluginConfig ?? {};
  const now = currentConfig(api);
  if (now && textOf(now) !== textOf(state.accepted)) accept(api, state, now);
  const settings = { ...state.accepted, ...state.kept };
  const saved = savedEntry()?.config;
  return saved ? strictest(settings, saved, state.rules) : settings;
}

/**
 * Returns what the settings in force differ by from what OpenClaw's config seems to say; for `flux2-tool doctor`.
 *
 * @param {PluginApi} api
 * @param {boolean} servesImageGenerate
 */
export function settingsReport(api, servesImageGenerate) {
  const settings = settingsOf(api);
  const { registered = {}, kept = {}, rules = {} } = states.get(api) ?? {};
  // What OpenClaw's own image_generate offers is taken from the registration.
  const [before, now] = [registered, settings].map((config) => JSON.stringify(valueOf(config, rules, "tiers")));
  const needsReload = before === now || !servesImageGenerate ? [] : ["tiers"];
  const shown = Object.entries(settings).map(([name, value]) => [name, rules[name]?.sensitive ? "…" : value]);
  return { settings: Object.fromEntries(shown), kept: Object.keys(kept), needs_reload: needsReload };
}

/**
 * Records what guards money now, and warns of what in the settings may not be meant.
 *
 * @param {PluginApi} api
 */
export function recordSettings(api) {
  const state = states.get(api);
  if (!state) return;
  const settings = settingsOf(api);
  const record = readRecord(api);
  if (record) warnOfLooser(api, record.guards, settings, state.rules);
  warnOfUnknown(api, settings, state);
  for (const [name, value] of Object.entries(state.kept)) {
    const isSecret = state.rules[name]?.sensitive;
    const last = isSecret ? "no image is made until it is set again" : `${JSON.stringify(value)} stays in force, as it was last`;
    const again = isSecret ? `\${FLUX2_TOOL_${name.toUpperCase()}}` : JSON.stringify(value);
    api.logger.warn(
      `flux2: ${CONFIG}.${name} is gone; ${last}. To keep it, run: openclaw config set ${CONFIG}.${name} '${again}'. ` +
        "To go without, run: flux2-tool openclaw install --accept-looser-settings",
    );
  }
  keepRecord(api, settings, state);
}

/**
 * Returns how the worker is launched, with a key that is equal for interchangeable workers.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @returns {Launch}
 */
export function launchOf(api, bundle) {
  const settings = settingsOf(api);
  const home = stateFolderOf(api);
  const python = settings.python ?? bundle.python;
  const chosen = shared.pythons.get(pythonKey(home, bundle))?.program; // see python_choice.js
  const program = python ? [python, "-P", "-m", "flux2_tool"] : (chosen ?? ["flux2-tool"]);
  return {
    program,
    home,
    key: JSON.stringify([bundle.version, bundle.manifest_sha256, program, textOf(settings)]),
    fix: python && python !== settings.python ? "flux2-tool openclaw install" : SET_PYTHON,
  };
}

/**
 * Takes a changed config over: whoever edits the config of a running plugin means it. What the record keeps in force
 * stays until that very setting is changed.
 *
 * @param {PluginApi} api
 * @param {State} state
 * @param {Settings} now
 */
function accept(api, state, now) {
  const before = state.accepted;
  const isUnchanged = (/** @type {string} */ name) => JSON.stringify(now[name]) === JSON.stringify(before[name]);
  const kept = Object.fromEntries(Object.entries(state.kept).filter(([name]) => isUnchanged(name)));
  warnOfLooser(api, { ...before, ...state.kept }, { ...now, ...kept }, state.rules);
  state.accepted = now;
  state.kept = kept;
  warnOfUnknown(api, now, state);
  keepRecord(api, { ...now, ...kept }, state);
}

/**
 * @param {PluginApi} api
 * @param {Settings} settings
 * @param {State} state
 */
function keepRecord(api, settings, { rules, kept }) {
  writeRecord(api, { guards: guardsOf(settings, rules), kept: Object.keys(kept) });
}

/**
 * @param {PluginApi} api
 * @param {Settings} before
 * @param {Settings} now
 * @param {SettingRules} rules
 */
function warnOfLooser(api, before, now, rules) {
  for (const name of loosened(before, now, rules)) {
    const [old, value] = [before, now].map((config) => shownValue(valueOf(config, rules, name), rules[name]));
    api.logger.warn(`flux2: ${CONFIG}.${name} is looser than before: ${value} instead of ${old}`);
  }
}

/**
 * @param {PluginApi} api
 * @param {Settings} config
 * @param {State} state
 */
function warnOfUnknown(api, config, { rules, words }) {
  const known = Object.keys(rules);
  for (const name of Object.keys(config).filter((key) => !known.includes(key))) {
    const near = name.length < MAX_COMPARED ? nearest(name, known, words) : null;
    api.logger.warn(`flux2: ${CONFIG}.${name.slice(0, MAX_COMPARED)} is not a setting${near ? ` (nearest: ${near})` : ""}`);
  }
}

/**
 * Returns the plugin's config as OpenClaw has it in force; null where it has none.
 *
 * @param {PluginApi} api
 * @returns {Settings | null}
 */
function currentConfig(api) {
  const config = /** @type {OpenClawConfig | undefined} */ (api.runtime?.config?.current?.());
  const entry = config?.plugins?.entries?.[ID];
  // One without a config, or disabled, as `openclaw doctor --fix` leaves it, says nothing of what is allowed.
  return entry?.config && entry.enabled !== false ? entry.config : null;
}

/** @param {Settings} settings */
function textOf(settings) {
  return JSON.stringify(Object.entries(settings).sort(([one], [other]) => (one < other ? -1 : 1)));
}
