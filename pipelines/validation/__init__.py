"""Validation of published lists: partial figures per record file that merge in any order, and the checks made of them."""
