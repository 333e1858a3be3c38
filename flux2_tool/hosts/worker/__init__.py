"""The worker: the process that the OpenClaw plugin starts and talks to, JSON-RPC 2.0 over stdin and stdout."""
