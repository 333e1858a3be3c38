"""The manifest: the tools, their arguments and results, and the definitions that a model is offered.

In: `openclaw_plugin.yaml`, and arguments as given by the caller. Out: typed tools, models and settings; definitions for
each host; violations as sentences; the result object's types. The only I/O is reading that file and its JSON Schema.
"""
