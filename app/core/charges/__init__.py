"""Prices of usage: from the properties of a charge and the usage of one bucket to the amounts of a fee.

``properties`` and ``validation`` judge what a client sent, ``pricing`` compiles it into a function of a
``BucketUsage``, the modules named for a charge model hold its formula, and ``fees`` turns a price into money.
"""
