"""What was made and what waits, in one folder on the disk, so that a restart goes on.

pictures/     everything made, PNG files by day; what lies here is the truth
deleted/      what was deleted on the page, for thirty days
waiting/      requests that wait, as JSON, and in pictures/ what they need, each named by its content
index.sqlite  what is known of the files in pictures/; made anew where it is missing
lock          held by the process that the folder belongs to
"""
