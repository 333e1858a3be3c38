// The record of what guarded money last, in OpenClaw's state folder: a config can be emptied while the plugin does not
// run (`openclaw doctor --fix` does so), and `flux2-tool openclaw install` compares with it (`openclaw/settings_record.py`
// reads it).

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** @import { PluginApi, Settings } from "./types.d.ts" */

/**
 * @typedef {object} GuardRecord
 * @property {Settings} guards What guarded money.
 * @property {string[]} kept Those of them that a config had lost already, and that hold until they are set.
 */

/**
 * Returns the record; null where there is none that can be read.
 *
 * @param {PluginApi} api
 * @returns {GuardRecord | null}
 */
export function readRecord(api) {
  try {
    const path = pathOf(api);
    const { guards, kept } = path ? JSON.parse(readFileSync(path, "utf8")) : {};
    return guards && typeof guards === "object" ? { guards, kept: Array.isArray(kept) ? kept : [] } : null;
  } catch {
    return null;
  }
}

/**
 * Keeps the record; without it a call is worth no less.
 *
 * @param {PluginApi} api
 * @param {GuardRecord} record
 */
export function writeRecord(api, { guards, kept }) {
  const path = pathOf(api);
  const text = `${JSON.stringify(kept.length ? { guards, kept } : { guards }, null, 2)}\n`;
  try {
    if (!path || text === textAt(path)) return;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.part`, text, { mode: 0o600 });
    renameSync(`${path}.part`, path);
  } catch (error) {
    api.logger.warn(`flux2: ${path} cannot be written: ${error}`);
  }
}

/** @param {string} path */
function textAt(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** @param {PluginApi} api */
function pathOf(api) {
  const state = api.runtime?.state?.resolveStateDir?.();
  return state ? join(state, "flux2-tool", "settings.json") : null;
}
