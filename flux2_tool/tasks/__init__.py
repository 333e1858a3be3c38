"""One image's life at RunAPI: submitted once, polled to its end, shared by all calls that wait, kept in the journal.

In: a prepared request, or the id of a task. Out: an image task with its state, images, cost or error. The guarantees
about money are here: one idempotency key per image, caps, deduplication, resumption after a process ended. Start
reading at `registry.py`, which begins and finds tasks; `status.py` has the table of states.
"""
