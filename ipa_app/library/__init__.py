"""Results and waiting requests in one folder on the disk, so that a restart loses nothing.

pictures/     all results, by day; these files are the source of truth
deleted/      files that were deleted on the page, for thirty days
waiting/      waiting requests as JSON, and in its pictures/ their input pictures, named by the hash of their content
index.sqlite  the index of the files in pictures/; rebuilt if it is missing
lock          held by the process that uses the folder
"""
