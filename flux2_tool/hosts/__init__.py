"""The engine's callers: Python code, the OpenClaw plugin's worker, and MCP, each a file or folder.

In: calls in each host's format. Out: results in each host's format. The hosts share `outcome.py`, which returns a
call's outcome as a value or as a JSON object.
"""
