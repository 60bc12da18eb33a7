"""From requests to pictures: validated requests, one worker per device, progress, cancelling, results.

Nothing here imports PyTorch until the first picture is drawn, so that the page can be up before.
"""
