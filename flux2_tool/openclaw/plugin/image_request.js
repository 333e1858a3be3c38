// Translates a request to OpenClaw's image_generate into our tools' arguments.

/** @import { ImageModel, ImageRequest } from "./types.d.ts" */

export const MAX_COUNT = 4; // of the tools' argument count

/**
 * Returns the tool's arguments, and notes on the parts of the request that they cannot express.
 *
 * @param {ImageRequest} request
 * @param {ImageModel} model
 * @param {string[]} sources
 */
export function toArguments(request, model, sources) {
  const { aspectRatio, resolution, count = 1 } = request;
  if (sources.length && !model.remix_image) throw new Error(`${model.name} makes images from text alone.`);
  /** @type {Record<string, unknown>} */
  const args = { prompt: request.prompt, model: sources.length ? model.remix_image : model.text_to_image };
  if (sources.length) args.source_image_urls = sources;
  /** @type {string[]} */
  const notes = [];
  const notApplied = (/** @type {string} */ name, /** @type {unknown} */ value, /** @type {string} */ why) => {
    notes.push(`${name} ${JSON.stringify(value)} was not applied: ${why}`);
  };
  if (aspectRatio && model.aspect_ratios.includes(aspectRatio)) args.aspect_ratio = aspectRatio;
  else if (aspectRatio) notApplied("aspectRatio", aspectRatio, offeredOf(model.aspect_ratios));
  if (model.needs_aspect_ratio && !args.aspect_ratio) {
    args.aspect_ratio = model.aspect_ratios[0];
    notes.push(`aspectRatio is needed by ${model.name} and ${args.aspect_ratio} was taken`);
  }
  const wanted = resolution?.toLowerCase();
  if (wanted && model.resolutions.includes(wanted)) args.output_resolution = wanted;
  else if (resolution) notApplied("resolution", resolution, offeredOf(model.resolutions));
  const pictures = Math.min(Math.max(Math.trunc(count) || 1, 1), MAX_COUNT);
  if (pictures > 1) args.count = pictures;
  if (pictures !== count) notApplied("count", count, `one call makes 1 to ${MAX_COUNT} images, and ${pictures} was taken`);
  if (request.size) notApplied("size", request.size, "use aspectRatio and resolution");
  for (const [name, value] of unknownOptions(request)) notApplied(name, value, "Flux 2 has no such option");
  return { args, notes };
}

/** @param {string[]} values */
function offeredOf(values) {
  return values.length ? `there are ${values.join(", ")}` : "this model has no choice of it";
}

/**
 * @param {ImageRequest} request
 * @returns {[string, unknown][]}
 */
function unknownOptions({ quality, outputFormat, background, providerOptions = {} }) {
  const given = Object.entries({ quality, outputFormat, background }).filter(([, value]) => value);
  return [...given, ...Object.entries(providerOptions)];
}
