"""The native OpenClaw plugin, generated from the manifest, and the commands that install and examine it."""
