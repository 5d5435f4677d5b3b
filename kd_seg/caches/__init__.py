"""What is prepared on disk: headers, fingerprints and shards."""
