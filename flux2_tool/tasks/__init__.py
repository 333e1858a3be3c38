"""One image's life cycle: submitted once, polled to its end, shared by all waiting calls, recorded in the journal.

In: a prepared request, or the id of a task. Out: an image task with its state, images, cost or error. The guarantees
about money are here: one idempotency key per image, caps, deduplication, take-over from a dead process. Start reading
at `registry.py`, which begins and finds tasks; `status.py` has the table of states.
"""
