"""Is a data set complete and plausible? Read through the readers that training uses."""
