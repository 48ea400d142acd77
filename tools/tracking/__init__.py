"""Tables of results in plain files: what a study measured, and what run and evaluation folders hold."""
