"""The MCP server over HTTP, `flux2-tool mcp --http`: many sessions in one process, which share one engine.

The SDK speaks the protocol ("streamable HTTP"). In front of it `app.py` decides who may speak at all, which session a
request belongs to, and how much of a client is borne; `exchange.py` follows each answer until the client has it.
"""
