"""Finds a function from examples of what it gives, by searching programs from the smallest up.

    language.py -> what a program may be made of
    bank.py     -> the terms that there are, by size; of those that give the same on all examples, the first
    looping.py  -> terms that go over the items of a list: what is made of an item is searched likewise
    branching.py -> `a if p else b`, put together of terms that are right on some examples
    search.py   -> all of it, level by level, until one is right; program.py writes it down as Python

`process.py` does it in a process of its own, since it takes all of a processor. Nothing here knows of the server.
"""
