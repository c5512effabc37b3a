"""The boundary of the model: out-of-bounds scores, the threshold, calibrated confidence.

One file a score, higher always means further out of bounds. Calibration happens in the
factory; here it is only applied. Needs numpy only.
"""
