"""The service under faults: what was accepted, what ran and what the receiver got, compared by three ledgers."""
