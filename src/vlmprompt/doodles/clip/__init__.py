"""The built-in models: two small CLIPs trained on drawings; nothing is downloaded."""
