"""The HTTP API, part by part; app.py has the table of its routes."""
