"""Headless pictures: bird's-eye views of detections against ground truth, comparisons, bar charts."""
