"""The gallery: the journal's pictures and spending as one page for people, which loads nothing from anywhere.

In: a snapshot of the journal, saved copies, and links that still work. Out: an HTML file. `making.py` is the door;
`entries.py` and `spending.py` decide what is shown, `thumbnails.py` makes it small, `page.py` writes it.
"""
