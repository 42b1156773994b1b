"""Plain metrics of arrays, below everything that chooses settings by them."""
