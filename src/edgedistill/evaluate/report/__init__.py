"""The report of a run: what it says (`content`), in which order (`sections`), in which form.

`html` and `markdown` render the same sections. They know the content and nothing of how it
was measured; missing parts are left out or named as missing, never invented.
"""
