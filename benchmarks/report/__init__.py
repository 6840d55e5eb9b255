"""The report: one self-contained page on all records of a folder.

`gather` reads the records, `judging` asks the statistics, `figures` says what to plot, `samples` prepares what models
wrote, and `page` puts it into one file. `pictures` makes the same plots as files for a paper, `watch` serves the page.
"""
