"""What the program survives: processes killed at any moment, disks that fill up, several processes in one folder."""
