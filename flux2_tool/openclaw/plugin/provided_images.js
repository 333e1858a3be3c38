// What OpenClaw's image_generate gets of a result: the pictures' bytes, and words about what did not come.
//
// OpenClaw 2026.9.6 shows its model the provider, the model's name, how many pictures came, and nothing of the metadata.
// So what the model must tell the person stands behind the model's name.

import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";

import { refOf, tasksOf } from "./picture_set.js";

/** @import { GeneratedImage, Image, Success } from "./types.d.ts" */

/** @type {Record<string, string>} */
const MIME_TYPES = { ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".avif": "image/avif" };

/**
 * Returns the pictures that could be read, and what is wrong with each other one. One that is missing takes no other
 * with it: all of them are paid, and count as given.
 *
 * @param {Success} result
 * @returns {Promise<{ images: GeneratedImage[], faults: string[] }>}
 * @throws {Error} None could be read.
 */
export async function readImages(result) {
  const read = await Promise.allSettled(result.images.map((image) => readImage(image, result)));
  const images = read.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  const faults = read.flatMap((one) => (one.status === "rejected" ? [one.reason.message] : []));
  if (!images.length) throw new Error([...faults, ...result.warnings].join("; ") || "The result has no picture.");
  return { images, faults };
}

/**
 * Returns a model's name, and behind it what did not come or was not applied.
 *
 * @param {string} name
 * @param {Success} result
 * @param {number} came
 * @param {string[]} warnings
 */
export function toldModel(name, result, came, warnings) {
  const wanted = Math.max(tasksOf(result).length, came);
  const parts = came < wanted ? [`${came} of ${wanted} pictures came`, ...warnings] : warnings;
  return parts.length ? `${name} (tell the user: ${parts.join("; ")})` : name;
}

/**
 * @param {Image} image
 * @param {Success} result
 * @returns {Promise<GeneratedImage>}
 */
async function readImage(image, result) {
  const { path, url, expires_at } = image;
  const ref = refOf(image, result);
  const buffer = path ? await readFile(path).catch(() => null) : null;
  if (!path || !buffer) throw new Error(`${ref} was made and paid, but not fetched. Its link: ${url}`);
  return {
    buffer,
    mimeType: MIME_TYPES[extname(path)] ?? "application/octet-stream",
    fileName: basename(path),
    metadata: { task: ref, url, expires_at },
  };
}
