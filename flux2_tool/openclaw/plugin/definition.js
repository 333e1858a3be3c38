// What a model is offered of a tool under the settings in force.

import { askingNote } from "./approval.js";

/** @import { AgentTool, Bundle, BundledTool, Settings } from "./types.d.ts" */

/**
 * Returns the definition that the model is offered, null where no enabled tier has the tool; `bundle.py`
 * describes the shape of tools.json.
 *
 * @param {BundledTool} tool
 * @param {Bundle} bundle
 * @param {Settings} settings
 * @returns {Omit<AgentTool, "execute" | "prepareArguments"> | null}
 */
export function definitionOf({ name, label, description, parameters, by_tiers, callback_only }, bundle, settings) {
  const tiers = settings.tiers ?? bundle.default_tiers;
  const enabled = bundle.tiers.filter((tier) => tiers.includes(tier)).join(",");
  const { text = "", withheld, without = [], ...changed } = by_tiers[enabled] ?? {};
  if (withheld) return null;
  const required = changed.required ?? parameters.required;
  const properties = { ...parameters.properties, ...changed.properties };
  const hosts = settings.callback_hosts?.join(", ");
  for (const member of callback_only) {
    const property = properties[member];
    if (!hosts) delete properties[member];
    else if (property) {
      const filled = property.description.replace("{callback_hosts}", () => hosts);
      properties[member] = { ...property, description: filled };
    }
  }
  for (const member of without) delete properties[member];
  return {
    name,
    label,
    description: description.replace("{tiers}", () => text) + askingNote(name, settings),
    // Typed as a schema of TypeBox's; as observed, a plain JSON Schema reaches the model unchanged.
    parameters: /** @type {AgentTool["parameters"]} */ ({ ...parameters, properties, required }),
    catalogMode: "direct-only",
  };
}
