"""From boxes to numbers: stored detections, matching, average precision, reports, bootstrap intervals."""
