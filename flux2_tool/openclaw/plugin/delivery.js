// How a finished picture reaches its conversation.
//
// A channel gets the link, and OpenClaw fetches the picture. It refuses an address on this machine, which is where the
// sandbox's pictures are, and a link that has ended leads nowhere: for those it gets our copy. In WebChat a picture that
// a tool attaches takes the place of the agent's words; there the agent writes the line that OpenClaw turns into the
// picture, which keeps both together, and what the tool attaches counts only where that line is missing.

import { access, constants, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { URL } from "node:url";

import { refOf } from "./picture_set.js";
import { remember, shared } from "./shared.js";

/** @import { Account, Delivery, Image, PluginApi, Success } from "./types.d.ts" */

export const WEBCHAT = "webchat";
const FOLDER = "tool-flux2"; // OpenClaw shows files of its media store from folders with such names
const KEPT_MS = 7 * 24 * 3600 * 1000; // as long as RunAPI keeps the picture
const MAX_COPIES = 2_000;
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/i;

/**
 * Offers OpenClaw our copies of the pictures that it cannot fetch.
 *
 * @param {PluginApi} api
 */
export function registerCopies(api) {
  api.registerHostedMediaResolver?.(async (url) => shared.copies.get(url) ?? null);
}

/**
 * Returns the folder of the copies that OpenClaw shows.
 *
 * @param {PluginApi} api
 */
export function copiesFolder(api) {
  return join(api.runtime.state.resolveStateDir(), "media", FOLDER);
}

/**
 * Returns whether a picture is needed as a file to be shown.
 *
 * @param {string | undefined} channel
 * @param {Account} account
 */
export function needsCopy(channel, { base_url }) {
  return channel === WEBCHAT || isLoopback(base_url);
}

/**
 * Prepares the pictures of a result for a conversation.
 *
 * @param {Success} result
 * @param {Image[]} due Those that are to be shown now.
 * @param {string | undefined} channel
 * @param {{ folder: string, isLate: boolean, isLive: boolean }} copies `isLive`: OpenClaw follows the turn as it runs.
 * @returns {Promise<Delivery>}
 */
export async function deliver(result, due, channel, { folder, isLate, isLive }) {
  /** @type {Delivery} */
  const delivery = { mediaUrls: [], lines: [], unattached: [] };
  for (const image of due) {
    const isFetchable = isPublic(image.url) && !hasEnded(image);
    const id = refOf(image, result)?.replace(/^task:/, "") ?? "picture";
    if (image.path && !isFetchable) {
      // A kept copy is in no folder that OpenClaw shows files of.
      const isKept = !image.path.startsWith(folder);
      const suffix = extname(image.path);
      const name = basename(image.path, suffix);
      const path = isKept ? await named(image.path, folder, id, { name, suffix }).catch(() => null) : null;
      remember(shared.copies, image.url, path ?? image.path, MAX_COPIES);
    }
    // Of the copies that stand for a link OpenClaw takes those of a turn that a person began.
    if (image.path && (channel === WEBCHAT || (isLate && !isFetchable))) {
      // OpenClaw shows the file's name as the alternative text. In a turn that it follows it looks into the file; in others
      // (one that nobody asked for, waited in a queue, or goes on after a restart) the page goes by the suffix alone.
      const file = { name: titleOf(result.task.title), suffix: isLive && !isLate ? "" : extname(image.path) };
      // A paid picture is shown by its own file where a copy cannot be written.
      const path = await named(image.path, folder, id, file).catch(() => image.path);
      delivery.lines.push(`MEDIA:"${path}"`);
      if (isFetchable) delivery.mediaUrls.push(image.url);
    } else if (isFetchable || (image.path && channel !== WEBCHAT)) delivery.mediaUrls.push(image.url);
    else if (!hasEnded(image)) delivery.unattached.push(image);
  }
  return delivery;
}

/**
 * Makes the folder of the copies and returns it; null where nothing can be written: a picture without a copy is still
 * attached by its link, and must not be refused.
 *
 * @param {PluginApi} api
 */
export async function preparedFolder(api) {
  const folder = copiesFolder(api);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await access(folder, constants.W_OK);
  } catch (error) {
    api.logger.warn(`flux2: no copies of pictures can be kept in ${folder}: ${error}`);
    return null;
  }
  await pruneCopies(folder, Date.now());
  return folder;
}

/**
 * Removes what OpenClaw has shown long ago. It keeps its own copies of what it showed in a turn that it followed.
 *
 * @param {string} folder
 * @param {number} nowMs
 */
async function pruneCopies(folder, nowMs) {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => null);
    if (found && nowMs - found.mtimeMs > KEPT_MS) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

/**
 * Returns the path of a copy of a file under another name: OpenClaw opens no file that has a second link.
 *
 * @param {string} path
 * @param {string} folder
 * @param {string} id The task's.
 * @param {{ name: string, suffix: string }} file
 */
async function named(path, folder, id, { name, suffix }) {
  const own = join(folder, id.replace(/[^\w-]/g, "-").slice(-40));
  await mkdir(own, { recursive: true, mode: 0o700 });
  const bytes = await readFile(path);
  for (let number = 1; ; number += 1) {
    const wanted = join(own, `${number === 1 ? name : `${name} (${number})`}${suffix}`);
    const there = await readFile(wanted).catch(() => null);
    if (there === null) await writeFile(wanted, bytes, { mode: 0o600 });
    if (there === null || there.equals(bytes)) return wanted;
  }
}

/**
 * Returns a prompt's beginning as the name of a file, which stands between quotation marks.
 *
 * @param {string | null | undefined} title
 */
function titleOf(title) {
  const text = (title ?? "").replace(/["'`…\\/\p{Cc}\p{Cf}\p{Zl}\p{Zp}:*?<>|]+/gu, " ").replace(/\s+/g, " ");
  const name = text.replace(/^[\s.]+|[\s.]+$/g, "");
  return name || "Picture";
}

/** @param {Image} image */
function hasEnded({ expires_at }) {
  return expires_at !== null && Date.parse(expires_at) <= Date.now();
}

/**
 * Returns whether OpenClaw fetches a link: public https alone. The worker passes on no link to a private network.
 *
 * @param {string} url
 */
function isPublic(url) {
  return /^https:/i.test(url) && !isLoopback(url);
}

/** @param {string | null} url */
function isLoopback(url) {
  return url !== null && URL.canParse(url) && LOOPBACK.test(new URL(url).hostname);
}
