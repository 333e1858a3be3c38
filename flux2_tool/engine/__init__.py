"""One tool call, from its arguments to its result: validate, resolve sources, build the request, wait, report.

In: a tool's name and arguments, and the caller. Out: a `ToolResult`, or a `Flux2Error` that is raised. Conversion to
JSON happens in `hosts/` and `cli/`.
"""
