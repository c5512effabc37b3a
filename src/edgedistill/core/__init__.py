"""Task spec, artefact types, protocols, catalogues and errors: what every room shares.

Free of torch. `core.errors`, `core.catalogue` and `core.files` need the standard library
only, so that the runtime can use them on a device.
"""
