// OpenClaw's config as it is saved, which is not in force while a restart is put off, where a reload was refused for
// another reason, or with gateway.reload.mode off. Only what is stricter in it counts (`settings.js`).

import { failure } from "./failure.js";

/** @import { Settings } from "./types.d.ts" */

/** @typedef {{ config: Settings, isEnabled: boolean }} SavedEntry */

/** @type {SavedEntry | null} */
let saved = null;

/** Returns the plugin's entry as it was saved when last looked at; null where that is not known. */
export function savedEntry() {
  return saved;
}

/** Returns why no image may be paid for: a plugin that is being disabled still gets calls while one waits. */
export function refusalBySaved() {
  if (saved?.isEnabled !== false) return null;
  const hint = "Tell the user so. The operator enables it again with: openclaw plugins enable flux2";
  return failure("configuration_error", "The plugin flux2 is disabled in OpenClaw's config. Nothing was sent.", hint);
}

/** Looks at the saved config; one that cannot be read or is invalid says nothing new. */
export async function lookAtSaved() {
  try {
    // OpenClaw's own reader resolves includes, variables and defaults. Outside of OpenClaw there is none.
    const { readConfigFileSnapshotForWrite } = await import("openclaw/plugin-sdk/config-mutation");
    const { snapshot } = await readConfigFileSnapshotForWrite();
    const entry = snapshot.config?.plugins?.entries?.flux2;
    if (!snapshot.valid) return;
    saved = entry ? { config: entry.config ?? {}, isEnabled: entry.enabled !== false } : null;
  } catch {
    // What was seen last stays: a config that cannot be read loosens nothing.
  }
}
