"""From files on disk to the batch: readers, plan, perturbation, samples and collation."""
