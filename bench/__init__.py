"""What the service costs, measured beside what people would use instead. See README.md in this folder."""
