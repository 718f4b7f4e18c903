"""`python -m scripts.policies`: what scaling policies cost beside hindsight and beside each other.

Everything runs in the simulator, on one core. A picture costs 20 GPU-seconds and has its GPU to
itself unless said; GPU-hours are paid from asking for a replica until it is gone.
"""
