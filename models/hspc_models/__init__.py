"""Classifiers: card, network, training, engines."""

import os

# Must come before torch is first loaded. By default OpenMP's idle threads spin; beside the pipeline's other processes
# the spinning ones keep the working ones off the cores: a batch of 37 ms was seen to take 400 to 2,000 ms on 2 cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
