"""Who is told of a run while it trains: the contract, the table in its folder, TensorBoard."""
