"""The contenders of bench/queue.py that are Python: each has put(sent), and what its own worker command loads."""
