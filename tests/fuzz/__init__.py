"""Hostile input: what RunAPI may answer at any step, and what an agent may give as arguments, counted."""
