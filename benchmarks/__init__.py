"""Speed and memory as ratios, and the coverage of our intervals: ``make bench``."""
