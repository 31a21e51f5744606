"""Pure arithmetic of metering and billing: no I/O, no clock, no framework, no binary floating point.

Nothing here imports from the rest of the application, so every rule can be tested with plain values.
"""
