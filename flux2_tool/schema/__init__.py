"""The manifest: which tools there are, what they take and return, and what a model is offered of them.

In: `openclaw_plugin.yaml`, and arguments as somebody gave them. Out: typed tools, models and settings; definitions for
each host; violations in words; the result object's types. Pure, but for reading the one file.
"""
