"""How an amount came about: the steps of a price, and sentences that tell them.

``figures`` is what a bucket of a charge was priced from, ``steps`` turns it into lines that add up to the price, and
``sentences`` says each line in words. Nothing is priced here: the steps read what the price functions have worked out.
"""
