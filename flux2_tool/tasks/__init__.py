"""One image's life at RunAPI: submitted once, polled to its end, shared by all who wait, recorded in the journal.

In: a prepared request, or the id of a task. Out: an image task with its state, images, cost or error. Here stand the
promises about money: one idempotency key an image, caps, deduplication, hand-over to another process.
"""
