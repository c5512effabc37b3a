"""The stages of a run, one file each: typed artefacts in, typed artefacts out."""
