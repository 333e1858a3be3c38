// The gallery in OpenClaw's Control UI: a tab whose page and pictures come from an HTTP route of the gateway.
//
// Only the gateway's operators reach the route. The page is one file that loads nothing; it is shown in a sandboxed
// frame, in which its links lead to the saved copies. Nothing is made, paid or changed here.

import { constants, open } from "node:fs/promises";
import { basename, extname } from "node:path";
import { pipeline } from "node:stream/promises";
import { URL } from "node:url";

/** @import { GalleryWorker, HttpRequest, HttpResponse, PluginApi } from "./types.d.ts" */

export const PATH = "/flux2/gallery";
const PICTURE = /^\/flux2\/gallery\/picture\/([A-Za-z0-9-]{1,120})$/;
/** @type {Record<string, string>} */
const TYPES = { ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".avif": "image/avif" };
const HEADERS = {
  "Cache-Control": "private, no-store",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/**
 * Adds the route and the tab.
 *
 * @param {PluginApi} api
 * @param {() => Promise<GalleryWorker | string>} startedWorker Resolves with why there is none, in words.
 */
export function registerGallery(api, startedWorker) {
  /**
   * @param {HttpRequest} request
   * @param {HttpResponse} response
   */
  const handler = async (request, response) => {
    try {
      await answer(request, response, startedWorker);
    } catch (error) {
      api.logger.error(`flux2: gallery: ${error instanceof Error ? error.stack : error}`);
      if (!response.headersSent) say(response, 500, "The gallery failed. See the gateway's log.");
      else response.destroy();
    }
    return true;
  };
  api.registerHttpRoute({ path: PATH, auth: "gateway", match: "prefix", handler });
  api.session?.controls?.registerControlUiDescriptor?.({
    surface: "tab",
    id: "gallery",
    label: "Pictures",
    description: "The pictures that were made with Flux 2, and what they cost.",
    icon: "image",
    group: "control",
    path: PATH,
    requiredScopes: ["operator.read"],
  });
}

/**
 * @param {HttpRequest} request
 * @param {HttpResponse} response
 * @param {() => Promise<GalleryWorker | string>} startedWorker
 */
async function answer(request, response, startedWorker) {
  if (request.method !== "GET" && request.method !== "HEAD") return say(response, 405, "Only GET and HEAD.");
  const { pathname, search } = new URL(request.url ?? "/", "http://gateway");
  const key = PICTURE.exec(pathname)?.[1];
  if (!key && pathname !== PATH && pathname !== `${PATH}/`) return say(response, 404, "There is no such page.");
  // The page's links are relative, and right from the address without the slash alone.
  if (pathname === `${PATH}/`) return say(response, 302, "The gallery is here.", { Location: `../${basename(PATH)}${search}` });
  const worker = await startedWorker();
  if (typeof worker === "string") return say(response, 503, worker);
  const found = key ? await worker.resultOf("gallery_picture", { key }) : await worker.resultOf("gallery", {});
  if (!found) return say(response, 503, "The page cannot be made now. On the gateway's machine run: flux2-tool doctor");
  if (!found.path) return say(response, 404, "There is no saved copy of this picture any more.");
  const type = key ? (TYPES[extname(found.path).toLowerCase()] ?? "application/octet-stream") : "text/html; charset=utf-8";
  return send(response, request.method, found.path, type);
}

/**
 * Sends a file, of which only a part is in memory at any time. The page brings its own policy.
 *
 * @param {HttpResponse} response
 * @param {string} method
 * @param {string} path
 * @param {string} type
 */
async function send(response, method, path, type) {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => null);
  if (!file) {
    say(response, 404, "There is no saved copy of this picture any more.");
    return;
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) {
      say(response, 404, "There is no saved copy of this picture any more.");
      return;
    }
    const disposition = type === "application/octet-stream" ? "attachment" : "inline";
    response.writeHead(200, {
      ...HEADERS,
      "Content-Type": type,
      "Content-Length": found.size,
      "Content-Disposition": `${disposition}; filename*=UTF-8''${encodeURIComponent(basename(path))}`,
    });
    if (method === "HEAD") response.end();
    else await pipeline(file.createReadStream({ autoClose: false }), response);
  } finally {
    await file.close();
  }
}

/**
 * @param {HttpResponse} response
 * @param {number} status
 * @param {string} text
 * @param {Record<string, string>} [more] Headers.
 */
function say(response, status, text, more = {}) {
  response.writeHead(status, { ...HEADERS, ...more, "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${text}\n`);
}
