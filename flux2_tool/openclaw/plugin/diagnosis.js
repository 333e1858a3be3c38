// What the running plugin reports of itself to `flux2-tool doctor` and `openclaw status`.

import { describeAccount } from "./account.js";
import { pause } from "./deadlines.js";
import { settingsReport } from "./settings.js";

/** @import { Account, Bundle, Failure, PluginApi } from "./types.d.ts" */
/** @import { Worker } from "./worker.js" */

const ACCOUNT_MS = 20_000; // whoever asks gives up after 30 s

/**
 * Returns the response of `flux2.doctor`; `openclaw/gateway_report.py` describes its shape.
 *
 * @param {PluginApi} api
 * @param {Bundle} bundle
 * @param {Account} account The one that the gateway has now.
 * @param {{ worker: Worker | null, problem: Failure | null }} found The worker, or why there is none.
 */
export async function diagnosis(api, { version, manifest_sha256, image_provider }, account, found) {
  const problem = found.problem ?? (await found.worker?.check()) ?? null;
  const { api_key, base_url } = account;
  const asked = problem ? null : found.worker?.resultOf("account", { api_key, base_url });
  const answer = await Promise.race([asked, pause(ACCOUNT_MS)]);
  return {
    version,
    manifest_sha256,
    ...describeAccount(account),
    ...settingsReport(api, image_provider !== null),
    account: answer ?? null,
    worker: { problem },
  };
}
