"""The hosts that call the engine: Python code, the OpenClaw plugin's worker, and MCP.

In: calls in each host's format. Out: results in each host's format; only here do results and errors become JSON.
"""
