"""RunAPI over HTTP: its contract in one table, one client for it, and the interpretation of its responses.

In: requests, one account at one base URL. Out: typed responses and errors; whether a failed request may have arrived.
Repeating a request is decided in `tasks/`.
"""
