"""What it costs to change a picture in part, and how that looks."""
