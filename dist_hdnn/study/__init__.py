"""Trade-off studies: one config, axes along which it varies, a process for every trial, a table and pictures of all.

axes        what varies: values of a config key, named groups of keys, ranges; trials made of them
plan        the study file, read and checked; parts: its axes and baselines
trials      the folder of a trial: who works on it, what came out
search      which trial is next: all of a grid, random ones, those that Optuna asks for (optuna_search, storage)
runner      trials as processes, several at once, all ended when the study is stopped
results     a tidy table of all trials, means over seeds, the Pareto front
figures     results in words, with their units
plots, summary, live     pictures (marks: what tells points apart), the Markdown report, the table on the terminal

This package stands above the config and the launcher, as it starts runs; nothing but the command line imports it.
"""
