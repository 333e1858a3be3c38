"""Who calls the engine: Python code, the OpenClaw plugin's worker, and MCP. One host, one file or folder.

In: calls as each host words them. Out: results as each host reads them; only here does a result or an error become
JSON.
"""
