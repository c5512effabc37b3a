"""Student families: one file each, named in `models.families`, and the parts they share.

A family knows the teacher's weights and the token ids it is given, not how it is trained,
exported or measured.
"""
