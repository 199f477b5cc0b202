"""The method contract and the methods that ship with the core."""
