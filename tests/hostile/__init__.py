"""Hostile jobs against the whole service: tables of items, and what must be unharmed after each of them."""
