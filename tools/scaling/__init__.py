"""Parts of `tools.scaling_study`: arms and claims as data, their runs, results, status words, the page; `studies` has a file each."""
