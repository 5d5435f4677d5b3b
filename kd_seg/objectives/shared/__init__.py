"""What several objectives use."""
