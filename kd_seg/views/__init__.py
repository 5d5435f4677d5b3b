"""Pictures and reports: bird's-eye view, range view, camera overlay, predictions against truth."""
