"""Measuring: metrics, intervals, calibration, boundary, robustness, fidelity, verdict, report.

Pure functions on arrays and texts. This room does not know which method made the answers it
judges; it knows the task's requirements, and it fits the guard whose scores the runtime owns.
"""
