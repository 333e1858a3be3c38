// The folders that OpenClaw gives the plugin.

import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** @import { PluginApi } from "./types.d.ts" */

/**
 * Returns the plugin's folder. OpenClaw passes it, because it runs a copy of these files elsewhere; ClawHub's inspector
 * passes none, and runs them where they are.
 *
 * @param {PluginApi} api
 */
export function pluginFolder(api) {
  return api.rootDir ?? dirname(import.meta.dirname);
}

/**
 * Returns OpenClaw's state folder.
 *
 * @param {PluginApi} api
 */
export function stateFolderOf(api) {
  return api.runtime?.state?.resolveStateDir?.() ?? join(homedir(), ".openclaw");
}
