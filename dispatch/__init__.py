"""What may die: claims jobs, takes images through the stages, settles them. No Ray, no SQL."""
