"""RunAPI over HTTP: its contract in one table, one client for it, and what its responses mean.

In: requests, and one account at one base URL. Out: typed responses and errors, and whether a failed request may have
arrived. When a create is sent again is decided in `tasks/`.
"""
