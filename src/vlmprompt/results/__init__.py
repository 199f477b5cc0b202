"""Results: one number a row, an append-only store, reporters."""
