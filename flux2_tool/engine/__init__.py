"""One tool call, from its arguments to its result: validate, resolve sources, build the request, wait, report.

In: a tool's name and arguments, and who calls. Out: a `ToolResult`, or a `Flux2Error` that is raised. What becomes
JSON does so in `hosts/`.
"""
