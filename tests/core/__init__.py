"""The core's behaviour: creating, polling, waiting, reading answers, downloading, the worker."""
