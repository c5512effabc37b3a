"""The command line: reads arguments, calls the rooms below, prints.

Holds no method of its own. May not import `service` (it is named in a catalogue) nor any
heavy package before a command runs, so that `--help` answers at once.
"""
