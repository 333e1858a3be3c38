"""What a shared journal promises that a file cannot, on a real server: many hosts, lost connections, kills, rights."""
