"""Does the embedded model draw what it is told?"""
