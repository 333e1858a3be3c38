"""Picture files: read safely, told what they are, freed of metadata, downloaded whole.

In: paths, bytes and links that nobody trusts. Out: pictures that are known to be pictures, and saved files. Knows
nothing of tasks or of RunAPI.
"""
