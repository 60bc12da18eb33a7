"""From requests to pictures: validated requests, one worker per device, progress, cancelling, results.

Nothing here imports torch until the first picture is drawn, so that a page can be up before.
"""
