"""The network side: a bundle behind HTTP.

Stands beside the command line and may not know it; needs the extra `serve`.
"""
