// What `openclaw security audit` says of this plugin: who can spend how much, and which files its agents can send.

import { settingsOf } from "./settings.js";

/** @import { AuditFinding, PluginApi, Settings } from "./types.d.ts" */

const WHERE = "openclaw config set plugins.entries.flux2.config";

/** @param {PluginApi} api */
export function registerAudit(api) {
  api.registerSecurityAuditCollector(() => [...spending(settingsOf(api)), ...files(settingsOf(api))]);
}

/**
 * @param {Settings} settings
 * @returns {Generator<AuditFinding>}
 */
function* spending({ spenders, daily_cap_usd = 5, ask_above_usd, sender_daily_cap_usd }) {
  if (spenders === "owner" || ask_above_usd === 0) return;
  const each = sender_daily_cap_usd === undefined ? "" : `, each person but the owner ${usd(sender_daily_cap_usd)}`;
  yield {
    checkId: "flux2.spending",
    severity: "info",
    title: "Whoever your agents answer can spend money on images",
    detail: `Up to ${usd(daily_cap_usd)} a day for all conversations together${each} (RunAPI account).`,
    remediation: `Only the owner: ${WHERE}.spenders owner. Or a person is asked each time: ${WHERE}.ask_above_usd 0`,
  };
}

/**
 * @param {Settings} settings
 * @returns {Generator<AuditFinding>}
 */
function* files({ source_roots = [] }) {
  const wide = source_roots.filter((root) => /^(\/|\/home\/?|\/root\/?|\/Users\/?|~\/?)$/.test(root));
  if (!wide.length) return;
  yield {
    checkId: "flux2.source_roots",
    severity: "warn",
    title: "Agents may send pictures from almost everywhere on this machine to RunAPI",
    detail: `source_roots has ${wide.join(", ")}.`,
    remediation: `Name the folders that hold source images: ${WHERE}.source_roots '["/path/of/pictures"]'`,
  };
}

/** @param {number} amount */
function usd(amount) {
  return `${amount.toFixed(2)} USD`;
}
