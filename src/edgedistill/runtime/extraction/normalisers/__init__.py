"""What words become: one file a kind, named in `catalogue`."""
