"""Tests of the tests: small changes of the code that some test must notice. See `__main__.py`."""
