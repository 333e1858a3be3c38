"""Picture files: read safely, identified, stripped of metadata, downloaded completely.

In: untrusted paths, bytes and links. Out: verified pictures and saved files. Independent of tasks and of RunAPI.
"""
