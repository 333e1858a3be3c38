// A list of pictures on the disk, in OpenClaw's state folder: whole or not at all, and worth no call.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** @import { Logger } from "./types.d.ts" */

/**
 * Returns the pictures of a file; none where there is no file, or none that can be read.
 *
 * @template Picture
 * @param {string} path
 * @param {(value: unknown) => boolean} isPicture
 * @param {Logger} logger
 * @returns {Picture[]}
 */
export function readPictures(path, isPicture, logger) {
  try {
    const { pictures } = JSON.parse(readFileSync(path, "utf8"));
    return Array.isArray(pictures) ? pictures.filter(isPicture) : [];
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!isMissing) logger.warn(`flux2: ${path} cannot be read: ${error}`);
    return [];
  }
}

/**
 * Writes the file anew; an empty list leaves none.
 *
 * @param {string} path
 * @param {unknown[]} pictures
 * @param {Logger} logger
 */
export function writePictures(path, pictures, logger) {
  try {
    if (!pictures.length) return rmSync(path, { force: true });
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const part = `${path}.part`;
    writeFileSync(part, JSON.stringify({ pictures }), { mode: 0o600 });
    return renameSync(part, path);
  } catch (error) {
    return logger.warn(`flux2: ${path} cannot be written: ${error}`);
  }
}
