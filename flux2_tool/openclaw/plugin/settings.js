// The plugin's settings in OpenClaw's config, and how the worker is launched under them.

import { stateFolderOf } from "./folders.js";
import { pythonKey, shared } from "./shared.js";

/** @import { Bundle, Launch, PluginApi, Settings } from "./types.d.ts" */

export const SET_PYTHON =
  "openclaw config set plugins.entries.flux2.config.python /path/of/the/python/that/has/flux2-tool";

/**
 * Returns the settings, which OpenClaw has checked against the plugin's configSchema.
 *
 * @param {PluginApi} api
 * @returns {Settings}
 */
export function settingsOf(api) {
  return api.pluginConfig ?? {};
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
    key: JSON.stringify([bundle.version, bundle.manifest_sha256, program, settings]),
    fix: python && python !== settings.python ? "flux2-tool openclaw install" : SET_PYTHON,
  };
}
