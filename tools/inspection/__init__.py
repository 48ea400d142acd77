"""Printing search lists in readable form: names of hashed ids, readable values, and their layout as text."""
