"""Hostile callers beside an honest one: what each of them gets, and what the honest one notices of it.

python -m tests.faults.hostile --executes 1000
"""
