"""OpenClaw: the native plugin, generated from the manifest, and the commands that install and examine it.

In: the manifest and the `openclaw` command. Out: the plugin's files (its hand-written JavaScript is in `plugin/`), and
the list of settings that hide the tools from a model. Calls reach the engine through `hosts/worker/`.
"""
