"""Trade-off studies: a config, axes along which it varies, a process per trial, a table and pictures of all.

axes           options of config keys, named groups of keys, ranges; the trials made of them
plan           the study file, read and checked
inputs         base config and contents of files, which all trials share
trials         the folder of a trial: its lock, its start, its run directory, its result
search         the next trial: of a grid or a random list, or from Optuna
runner         trials as processes, several at once, all ended when the study is stopped
results        names and units of results, a tidy table of all trials, means over seeds, the Pareto front
report, plots  progress on the terminal, the Markdown report, the pictures
command        `dist-hdnn study` from the plan to the report

This package stands above the config and the launcher, as it starts runs. Only the command line imports it.
"""
