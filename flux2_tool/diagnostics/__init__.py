"""Diagnostics: `doctor` checks an installation for free, `probe` pays for one image and records the responses.

In: the manifest, the shell's environment, and for `probe` a key. Out: findings with the command that fixes each, or a
table of what RunAPI answered.
"""
