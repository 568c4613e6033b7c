"""Training, evaluation and selection: the paper's loop, on one process or many."""
