"""Training: schedules, optimisers, the loop, distributed runs, exact resuming; it knows no detector and no data set."""
