"""Side effects: sources that append first events, and consumer groups that do the work.

One file for each processor, and a folder for each outside thing that they drive
(`storage/`: disk; `media/`: PyAV).
"""
