"""RunAPI over HTTP: its contract in one table, one client for it, and what its responses mean.

In: requests, one account at one base URL. Out: typed responses and errors; whether a request that failed may have
arrived. Decides nothing about tasks: when to repeat a request is `tasks/`'s business.
"""
